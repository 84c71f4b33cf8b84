"""Commands from the hub to an autopilot, through a real agent: those that are to be, and none that are not."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.conftest import require_package
from tests.deploy.fleet.commanding import MINUTE_NS, Autopilot, Hub, keep_key, node
from tests.deploy.fleet.hubs import hub_at
from tests.stages.fleet.test_mavlink import free_udp_port
from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.commands import hub as hub_commands
from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.hub.serve import _calls
from thalweg.deploy.fleet.node.commands import Commands, allowed_in
from thalweg.pipeline.fleet.agent_socket import NODE, VIDEO
from thalweg.stages.fleet.agent_link import machine_ns
from thalweg.stages.fleet.mavlink_action import MavlinkAction, message_of
from thalweg.stages.fleet.mavlink_link import MavlinkError


@pytest.fixture(autouse=True)
def packages() -> None:
    require_package("pymavlink", "edge")
    require_package("cryptography", "edge")


def run(work: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(bounded())


@pytest.mark.real
def test_a_command_is_carried_out_acknowledged_and_reported(tmp_path: Path) -> None:
    async def fly() -> None:
        hub, port = Hub(), free_udp_port()
        pilot = Autopilot(port)
        async with node(tmp_path, hub, pilot, port) as there:
            there.commands.take(hub.command())
            assert (await there.outcome())["done"] is True
            assert pilot.carried_out == [(17, 0)]

    run(fly())


@pytest.mark.real
def test_none_is_carried_out_that_is_late_repeated_unsigned_or_for_somebody_else(tmp_path: Path) -> None:
    async def fly() -> None:
        hub, port, now_s = Hub(), free_udp_port(), time.time()
        pilot = Autopilot(port)
        async with node(tmp_path, hub, pilot, port) as there:
            once = hub.command(action="photo")
            there.commands.take(once)
            await there.outcome()
            assert len(pilot.carried_out) == 1
            wrong = [
                once,  # repeated
                hub.command(issued_s=now_s - 20, expires_s=now_s - 10),  # after its time
                hub.command(issued_s=now_s + 60, expires_s=now_s + 70),  # before it
                hub.command(expires_s=now_s + 300),  # valid for too long
                hub.command(key=certs.make_signing_key()),  # signed by somebody else
                hub.command(salt=b""),  # signed, as something else
                hub.command(node="drone-8"),
                hub.command(instance="cd"),
                hub.command(action="land"),  # not allowed here
                hub.command(action="arm"),
                hub.command()[:-20],
                b"",
                b"garbage" * 1000,
            ]
            for data in wrong:
                there.commands.take(data)
            await asyncio.sleep(2.5)
            assert len(pilot.carried_out) == 1
            assert [outcome["done"] for outcome in there.outcomes] == [True] + [False] * len(wrong)

    run(fly())


@pytest.mark.real
@pytest.mark.parametrize("wrong", [{"key": b""}, {"key": bytes(32)}, {"system": 9}])
def test_an_autopilot_that_is_unsigned_or_another_one_is_told_nothing(tmp_path: Path, wrong: dict[str, Any]) -> None:
    async def fly() -> None:
        hub, port = Hub(), free_udp_port()
        right, other = Autopilot(port), Autopilot(port, **wrong)
        right.answers = False
        async with node(tmp_path, hub, right, port) as there, asyncio.TaskGroup() as group:
            flying = group.create_task(other.fly())
            await asyncio.sleep(0.3)
            there.commands.take(hub.command())
            outcome = await there.outcome()
            flying.cancel()
        assert outcome["done"] is False  # whatever the other one acknowledged

    run(fly())


@pytest.mark.real
def test_the_pilots_change_of_mode_wins(tmp_path: Path) -> None:
    async def fly() -> None:
        hub, port = Hub(), free_udp_port()
        pilot = Autopilot(port)
        async with node(tmp_path, hub, pilot, port) as there:
            given = hub.command()
            pilot.mode = 9
            await asyncio.sleep(0.3)
            there.commands.take(given)
            assert "the pilot has changed the mode" in (await there.outcome())["reason"]
            assert pilot.carried_out == []

    run(fly())


def test_what_is_allowed_is_in_a_file_of_the_operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert allowed_in(tmp_path) == frozenset()
    path = tmp_path / "commands.json"
    path.write_text('{"allow": ["hold"]}', encoding="utf-8")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert allowed_in(tmp_path) == {"hold"}
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(FleetError, match="can be written by what runs here"):
        allowed_in(tmp_path)
    for wrong in ("{", "[]", '{"allow": "hold"}', '{"allow": ["arm"]}', '{"allow": {"hold": 1}}'):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(FleetError):
            allowed_in(tmp_path)


def test_a_file_of_the_agents_own_allows_nothing_though_it_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "commands.json"
    path.write_text('{"allow": ["hold"]}', encoding="utf-8")
    path.chmod(0o444)
    if os.getuid() == 0:
        os.chown(path, 1000, -1)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "geteuid", lambda: owner)
    with pytest.raises(FleetError, match="can be written by what runs here"):
        allowed_in(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert allowed_in(tmp_path) == {"hold"}
    link = tmp_path / "linked"
    link.mkdir()
    (link / "commands.json").symlink_to(path)
    with pytest.raises(FleetError, match="can be written by what runs here"):
        allowed_in(link)


def test_a_stage_is_told_until_when_so_that_it_may_read_that_whenever() -> None:
    async def case() -> None:
        hub, refused = Hub(), []
        commands = Commands("drone-7", "ab", frozenset({"hold"}), hub.public, refused.append)
        commands.heard(machine_ns(), time.time())
        waiting = asyncio.create_task(commands.wait(5))
        await asyncio.sleep(0)
        commands.take(hub.command())
        told = json.loads(await waiting)
        left_s = (told["until_ns"] - machine_ns()) / 1e9
        assert 0 < left_s <= 10 and told["until_ns"] - told["given_ns"] == 10_000_000_000
        assert not refused

    asyncio.run(case())


def test_video_goes_to_who_sends_it_and_never_to_the_autopilot_and_only_where_it_is_allowed() -> None:
    async def case() -> None:
        hub, refused = Hub(), []
        commands = Commands("drone-7", "ab", frozenset({"hold", "video"}), hub.public, refused.append)
        strict = Commands("drone-7", "ab", frozenset({"hold"}), hub.public, refused.append)
        for each in (commands, strict):
            each.heard(machine_ns(), time.time())
        autopilot = asyncio.create_task(commands.wait(0.3))
        await asyncio.sleep(0)
        asked = {"action": "video", "settings": {"seconds": 60}}
        commands.take(hub.command(**asked))
        strict.take(hub.command(**asked))
        camera = asyncio.create_task(commands.wait(5, VIDEO))
        await asyncio.sleep(0)
        commands.take(hub.command(**asked))
        assert json.loads(await camera)["settings"] == {"seconds": 60}
        assert await autopilot == ""
        assert [each["reason"] for each in refused] == [
            "no fleet.uplink with `on_demand` runs here",
            "video is not allowed by this node's own file",
        ]

    asyncio.run(case())


def test_a_photo_that_is_asked_for_again_is_the_same_photo() -> None:
    assert message_of("photo", {}, 7)[1][3] == 7  # MAV_CMD_IMAGE_START_CAPTURE: the sequence number
    assert message_of("hold", {}, 7)[1] == (0,) * 7


class Link:
    """In place of one over UDP."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.peer: Any = None

    def answer(self, peer: Any) -> None:
        self.peer = peer


async def heard(folder: Path, *pieces: tuple[bytes, str]) -> tuple[MavlinkAction, Link]:
    """The stage, and its link, once it has heard these."""
    keep_key(folder)
    os.environ[NODE] = str(folder / "intake.sock")
    try:
        action, link = MavlinkAction("udp:127.0.0.1:1"), Link()
        action.open(None)  # type: ignore[arg-type]
    finally:
        del os.environ[NODE]
    action._link = link  # type: ignore[assignment]
    for piece in pieces:
        link.pieces.put_nowait(piece)
    hearing = asyncio.create_task(action._hear(None))  # type: ignore[arg-type]
    for _ in range(len(pieces) + 1):
        await asyncio.sleep(0)
    hearing.cancel()
    assert link.pieces.empty()
    return action, link


def heartbeats(count: int, *, mode: int = 3) -> list[bytes]:
    autopilot = Autopilot(1)._mav
    return [bytes(autopilot.heartbeat_encode(2, 3, 128, mode, 4).pack(autopilot)) for _ in range(count)]


def test_a_forged_message_neither_deafens_to_the_autopilot_nor_has_commands_sent_elsewhere(tmp_path: Path) -> None:
    async def case() -> None:
        first, second, third = heartbeats(3)
        forged = second[:-12] + b"\xff" * 6 + second[-6:]  # of a time far ahead: its signature is not right
        action, link = await heard(
            tmp_path, (first, "autopilot"), (forged, "mallory"), (b"garbage", "mallory"), (third, "autopilot")
        )
        assert link.peer == "autopilot" and action.counts["unsigned"] == 1
        times = list(action._mav.signing.stream_timestamps.values())
        assert times == [int.from_bytes(third[-12:-6], "little")]

    asyncio.run(case())


def test_a_message_recorded_from_the_autopilot_is_not_heard_again(tmp_path: Path) -> None:
    async def case() -> None:
        beats = [(beat, "autopilot") for beat in heartbeats(3)]
        action, link = await heard(tmp_path, *beats, (beats[1][0], "mallory"), (beats[2][0], "mallory"))
        assert link.peer == "autopilot" and action.counts["unsigned"] == 2

    asyncio.run(case())


def test_an_acknowledgement_of_what_somebody_else_has_asked_is_not_ours(tmp_path: Path) -> None:
    async def case() -> None:
        action, _ = await heard(tmp_path, *((beat, "autopilot") for beat in heartbeats(1)))
        action._deck.take("hold", 0, MINUTE_NS, machine_ns())
        action._command = {"action": "hold", "settings": {}}
        action._deck.step(machine_ns())
        action._packed(0)
        for target, busy in (((1, 5), True), ((200, 191), True), ((1, 191), False)):
            ack = action._mav.command_ack_encode(17, 0, 0, 0, *target)
            ack._header.srcSystem, ack._header.srcComponent = 1, 1
            action._heard("COMMAND_ACK", ack, machine_ns(), None)
            assert (action._deck._ended is None) is busy

    asyncio.run(case())


@pytest.mark.parametrize(
    ("key", "local"), [("", ""), ("00", ""), ("no key", ""), ("", '{"allow": ["hold"]}'), ("", "{")]
)
def test_what_cannot_sign_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, local: str) -> None:
    monkeypatch.setenv(NODE, str(tmp_path / "intake.sock"))
    if key:
        (tmp_path / "mavlink.key").write_text(key, encoding="utf-8")
        (tmp_path / "mavlink.key").chmod(0o600)
    if local:
        (tmp_path / "commands.json").write_text(local, encoding="utf-8")
    with pytest.raises(MavlinkError):
        MavlinkAction("udp:127.0.0.1:1").open(None)  # type: ignore[arg-type]


def test_a_key_that_everybody_can_read_signs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NODE, str(tmp_path / "intake.sock"))
    keep_key(tmp_path, 0o644)
    with pytest.raises(MavlinkError, match="can be read by everybody"):
        MavlinkAction("udp:127.0.0.1:1").open(None)  # type: ignore[arg-type]


@pytest.mark.real
def test_a_hub_gives_a_command_to_its_node_once_and_to_nobody_who_has_not_reported(tmp_path: Path) -> None:
    require_package("aiohttp", "hub")

    async def give() -> None:
        async with hub_at(tmp_path) as hub:
            identity = await hub.node("drone-7")
            with pytest.raises(FleetError, match="has not reported"):
                hub.state.command("drone-7", "hold", {}, 10)
            hub.state.heard("drone-7", {"instance": identity.instance}, time.time())
            made, data = hub.state.command("drone-7", "hold", {}, 10)

            def wait() -> Any:
                with identity.client() as client:
                    return client.call("/v1/commands", {})

            giving = asyncio.create_task(hub.commanding.give("drone-7", data, 5))
            answer = await asyncio.to_thread(wait)
            assert await giving
            commands = Commands("drone-7", identity.instance, frozenset({"hold"}), identity.signing, print)
            commands.heard(machine_ns(), time.time())
            waiting = asyncio.create_task(commands.wait(5))
            await asyncio.sleep(0.05)
            commands.take(answer["command"])
            assert json.loads(await waiting)["id"] == made
            assert not await hub.commanding.give("drone-7", data, 0.2)

    run(give())


@pytest.mark.parametrize("asked", [("command", "drone-7", "hold", "--within", "20"), ("video", "drone-7")])
def test_the_command_line_asks_the_hub_in_words_that_it_understands(
    monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...]
) -> None:
    calls = _calls(None, None)  # type: ignore[arg-type]
    heard: list[str] = []

    class Control:
        def ask(self, call: str, *, within_s: float, **args: Any) -> str:
            inspect.signature(calls[call]).bind(**args)
            heard.append(call)
            return "it was fetched"

    monkeypatch.setattr("thalweg.deploy.fleet.hub.serve.asking", lambda _: nullcontext(Control()))
    result = CliRunner().invoke(hub_commands, asked, catch_exceptions=False)
    assert result.exit_code == 0 and heard == ["command"]
