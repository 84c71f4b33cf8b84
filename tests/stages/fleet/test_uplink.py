"""What the agent of a node learns of the vehicle from telemetry that passes."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.stages.fleet.agents import agent_at
from thalweg.pipeline.fleet.agent_socket import NODE, NODE_FOLDER
from thalweg.pipeline.fleet.telemetry import Telemetry
from thalweg.pipeline.payload import Token
from thalweg.pipeline.signal import Bitrate, Direction
from thalweg.stages.fleet.agent_link import machine_ns, node_folder
from thalweg.stages.fleet.uplink import Uplink
from thalweg.testing import packet


@pytest.mark.parametrize(
    ("armed", "age_s", "told"), [(True, 0, True), (True, 9, True), (False, 0, False), (False, 9, None), (None, 0, None)]
)
def test_that_a_vehicle_is_disarmed_is_no_old_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, armed: bool | None, age_s: int, told: bool | None
) -> None:
    monkeypatch.setenv(NODE, str(tmp_path / "agent"))
    uplink = Uplink()

    async def case() -> None:
        async with agent_at(tmp_path / "agent") as heard:
            await uplink._tell_state(Telemetry(latitude=1, longitude=2, altitude_m=3, armed=armed), age_s * 10**9)
            _, state = await heard.get()
            assert state.get("armed") is told and state["latitude"] == 1
            await uplink.close()

    asyncio.run(case())


def test_that_a_vehicle_arms_is_told_at_once_and_the_rest_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NODE, str(tmp_path / "agent"))
    uplink = Uplink()

    async def case() -> list[bool]:
        async with agent_at(tmp_path / "agent") as heard:
            for armed in (False, False, True, True, False):
                await uplink._tell_state(Telemetry(latitude=1, longitude=2, altitude_m=3, armed=armed), 0)
            await uplink.close()
            return [heard.get_nowait()[1]["armed"] for _ in range(heard.qsize())]

    assert asyncio.run(case()) == [False, True, False]


def test_packets_with_a_deadline_are_counted_as_they_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NODE, str(tmp_path / "agent"))

    now: Any = SimpleNamespace(now_ns=lambda: 100)

    async def case() -> dict[str, int]:
        async with agent_at(tmp_path / "agent"):
            uplink = Uplink()
            for deadline in (None, 99, 100, 101):
                await uplink.process(packet(Token(text="x"), time=0, deadline=deadline), now)
            await uplink.close()
        return uplink.counts

    assert asyncio.run(case()) == {"stored": 4, "lost": 0, "in_time": 2, "late": 1}


def test_who_feeds_it_media_is_told_once_how_much_the_link_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NODE, str(tmp_path / "agent"))
    monkeypatch.setattr("thalweg.stages.fleet.uplink.RATE_S", 0.0)
    raised: list[Any] = []
    ctx: Any = SimpleNamespace(now_ns=lambda: 100, name="up", signal=lambda *signal: raised.append(signal))

    async def case() -> None:
        async with agent_at(tmp_path / "agent"):
            uplink = Uplink(kind="media")
            for _ in range(3):
                await uplink.process(packet(Token(text="x"), time=0), ctx)
            await uplink.close()

    asyncio.run(case())
    assert raised == [(Bitrate(origin="up", bitrate_bps=123_000), Direction.UP)]


def test_media_on_demand_are_taken_while_the_hub_asks_and_stages_upstream_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NODE, str(tmp_path / "agent"))
    raised: list[Any] = []
    ctx: Any = SimpleNamespace(now_ns=lambda: 100, name="video", signal=lambda *signal: raised.append(signal[0]))
    request = {"id": "7", "action": "video", "settings": {"seconds": 1.5}, "until_ns": machine_ns() + 10**10}
    late = {**request, "id": "8", "until_ns": machine_ns() - 1}

    async def case() -> list[Any]:
        async with agent_at(tmp_path / "agent", json.dumps(late), json.dumps(request)) as heard:
            uplink = Uplink(on_demand=({"coder.rate": 1, "coder.scale": 1.0}, {"coder.rate": 10}))
            await uplink.open(ctx)
            await uplink.process(packet(Token(text="before")), ctx)
            async with asyncio.timeout(10):
                told = [await heard.get(), await heard.get()]
                while not uplink.counts["stored"]:
                    await uplink.process(packet(Token(text="while")), ctx)
                    await asyncio.sleep(0.01)
                told.append(await heard.get())
                while raised[-1].settings["rate"] == 10:
                    await asyncio.sleep(0.05)
                    await uplink.process(packet(Token(text="after")), ctx)
            await uplink.close()
            assert uplink.counts["unasked"] >= 2
        return told

    told = asyncio.run(case())
    assert [(stream, body["payload"].get("id"), body["payload"].get("done")) for stream, body in told[:2]] == [
        ("video.outcome", "8", False),
        ("video.outcome", "7", True),
    ]
    assert told[2][1]["payload"]["text"] == "while"
    assert [each.settings for each in raised] == [{"rate": 1, "scale": 1.0}, {"rate": 10}, {"rate": 1}]


def test_the_folder_of_a_node_need_not_hold_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NODE, "/run/thalweg/intake.sock")
    assert node_folder() == Path("/run/thalweg")
    monkeypatch.setenv(NODE_FOLDER, "/var/lib/node")
    assert node_folder() == Path("/var/lib/node")


def test_an_agent_that_hangs_holds_up_no_pipeline_and_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NODE, str(tmp_path / "agent"))
    monkeypatch.setattr("thalweg.stages.fleet.agent_link.ANSWER_S", 0.05)
    hung = socket.socket(socket.AF_UNIX)
    hung.bind(str(tmp_path / "agent"))
    hung.listen()
    said: list[str] = []
    ctx: Any = SimpleNamespace(now_ns=lambda: 100, report=said.append)

    async def case() -> dict[str, int]:
        uplink = Uplink(patience=0)
        async with asyncio.timeout(5):
            for _ in range(3):
                await uplink.process(packet(Token(text="x")), ctx)
        await uplink.close()
        return uplink.counts

    with hung:
        assert asyncio.run(case())["lost"] == 3
    assert said == ["the node's agent is away: no answer"]
