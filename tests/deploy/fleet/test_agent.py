"""What an agent decides by itself: when a release may be tried, and when what ended is started again."""

from __future__ import annotations

import asyncio
import errno
import time
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.conftest import require_package
from tests.deploy.fleet.agents import agent_in, enrolled_node
from thalweg.deploy.fleet.node.agent import Agent
from thalweg.deploy.fleet.node.vehicle import VehicleState
from thalweg.pipeline.fleet.agent_socket import STATE
from thalweg.pipeline.fleet.backoff import pause_s
from thalweg.pipeline.fleet.spool_policy import SpoolClass


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a node that was enrolled."""
    require_package("cryptography", "hub")
    require_package("aiohttp", "hub")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # an agent sets it
    return enrolled_node(tmp_path)


def say(agent: Agent, state: dict[str, Any]) -> None:
    """What a stage of the pipeline says."""
    assert asyncio.run(agent._intake._take(msgpack.packb([1, "", STATE, 0, msgpack.packb(state)]))) == (1, "")


def test_a_vehicle_that_was_armed_is_armed_through_silence_and_restarts_until_it_disarms(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with agent_in(node) as agent:
        assert agent._may_change()
        say(agent, {"armed": True})
        monkeypatch.setattr("time.monotonic", lambda: 1e9)
        say(agent, {"battery": 0.5, "armed": None})
        assert not agent._may_change()
    with agent_in(node) as again:
        assert not again._may_change()
        say(again, {"armed": False})
        assert again._may_change()
    with agent_in(node) as third:
        assert third._may_change()


def test_a_word_that_cannot_be_read_is_taken_to_be_armed(tmp_path: Path) -> None:
    (tmp_path / "vehicle.json").write_bytes(b"{")
    assert VehicleState(tmp_path).armed


def test_what_is_known_of_the_vehicle_is_bounded_and_that_it_is_armed_is_always_known(tmp_path: Path) -> None:
    vehicle = VehicleState(tmp_path)
    for number in range(100):
        vehicle.said({f"name {number}": number, 5: 5})
    vehicle.said({"armed": True})
    assert vehicle.armed and vehicle.known["armed"] and len(vehicle.known) == 21
    assert VehicleState(tmp_path).armed


def test_a_word_that_the_disk_did_not_take_is_written_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vehicle = VehicleState(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("thalweg.deploy.fleet.node.disk.replace_file", full)
        vehicle.said({"armed": True})
    assert vehicle.armed and VehicleState(tmp_path).armed is None
    vehicle.said({"armed": True})
    assert VehicleState(tmp_path).armed


def test_a_pipeline_that_never_stays_is_started_again_each_minute(node: Path) -> None:
    with agent_in(node) as agent:
        agent._deaths, agent._started_s = 5000, time.monotonic()
        asyncio.run(agent._start_again())
        assert agent._deaths == 5001


def test_telemetry_is_forced_to_the_disk_with_every_tick(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.deploy.fleet.node.agent.TICK_S", 0.001)

    async def case(agent: Agent) -> None:
        forced: asyncio.Queue[SpoolClass] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(agent.spool, "sync", lambda kind: loop.call_soon_threadsafe(forced.put_nowait, kind))
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            ticking = group.create_task(agent._tick_on(group))
            assert [await forced.get(), await forced.get()] == [SpoolClass.TELEMETRY] * 2
            ticking.cancel()

    with agent_in(node) as agent:
        asyncio.run(case(agent))


@pytest.mark.parametrize(("failures", "expected"), [(0, 0.0), (1, 1.0), (4, 8.0), (7, 60.0), (10**6, 60.0)])
def test_pauses_double_up_to_a_minute(failures: int, expected: float) -> None:
    assert pause_s(failures) == expected
