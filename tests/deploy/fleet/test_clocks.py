"""Clocks that are ten years ahead, in 1970, or step back and forth, at the hub, at a node, at both."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_package
from tests.deploy.fleet.hubs import Hub, hub_at
from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.hub import records as module
from thalweg.deploy.fleet.hub.clock import DAY_S, FILE, SteadyClock
from thalweg.deploy.fleet.node.asking import HubRefused
from thalweg.deploy.fleet.node.commands import Commands
from thalweg.deploy.fleet.node.identity import Identity
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.stages.fleet.agent_link import machine_ns
from thalweg.stages.fleet.mavlink_action import signing_time
from thalweg.transports.fleet.segment import Stored, pack

YEAR_S = 365 * DAY_S
WRONG = (10 * YEAR_S, -50 * YEAR_S)


class Clock:
    """That of this machine, and how far it is off."""

    def __init__(self, true: Callable[[], float]) -> None:
        self.true = true
        self.off_s = 0.0

    def __call__(self) -> float:
        return self.true() + self.off_s

    def off(self, now_s: float) -> float:
        """How far another time is from the right one."""
        return abs(now_s - self.true())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    require_package("cryptography", "hub")
    require_package("aiohttp", "hub")
    found = Clock(time.time)
    monkeypatch.setattr("time.time", found)
    yield found
    found.off_s = 0.0


def frame(number: int) -> bytes:
    return pack(Stored(kind=SpoolClass.EVENTS, boot=1, stream="s", number=number, time_ns=0, payload=b"x" * 90))


async def reported(identity: Identity) -> Any:
    """By a connection of its own; the node has heard what time it is."""

    def report() -> Any:
        with identity.client() as client:
            return client.call("/v1/report", {"instance": identity.instance, "streams": []})

    answer = await asyncio.to_thread(report)
    identity.heard(answer["time"])
    return answer


@pytest.mark.parametrize("wrong_s", WRONG)
def test_a_clock_that_jumps_is_not_followed_said_once_and_believed_again_when_it_is_right(
    tmp_path: Path, clock: Clock, wrong_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    steady = SteadyClock(tmp_path)
    for off_s in (wrong_s, wrong_s + 5, wrong_s):
        clock.off_s = off_s
        assert clock.off(steady.now_s()) < 60
    assert clock.off(SteadyClock(tmp_path).now_s()) < 60
    clock.off_s = 3000.0
    assert clock.off(steady.now_s() - 3000) < 60
    mine = [record.levelno for record in caplog.records if record.levelno != logging.DEBUG]
    assert mine == [logging.ERROR, logging.ERROR, logging.WARNING]  # the second one was begun with a wrong clock


def test_a_clock_that_was_set_by_days_is_followed_and_what_it_says_is_believed_where_the_file_was_removed(
    tmp_path: Path, clock: Clock
) -> None:
    steady = SteadyClock(tmp_path)
    for days in (20, 45, 44.5):
        clock.off_s = days * DAY_S
        assert abs(steady.now_s() - clock()) < 60
    clock.off_s = 10 * YEAR_S
    assert abs(SteadyClock(tmp_path).now_s() - clock()) > YEAR_S
    (tmp_path / FILE).unlink()
    assert abs(SteadyClock(tmp_path).now_s() - clock()) < 60


def test_a_counter_of_the_machine_tells_how_much_time_has_passed(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = [100.0]
    monkeypatch.setattr("thalweg.deploy.fleet.hub.clock._counter_s", lambda: counter[0])
    steady = SteadyClock(tmp_path)
    clock.off_s = -50 * YEAR_S
    counter[0] += 40 * DAY_S
    assert abs(steady.now_s() - clock.true() - 40 * DAY_S) < 60


@pytest.mark.parametrize("wrong_s", WRONG)
def test_a_hub_whose_clock_was_wrong_for_a_while_still_has_its_nodes(
    tmp_path: Path, clock: Clock, wrong_s: float
) -> None:
    async def wrong(hub: Hub, identity: Identity) -> None:
        clock.off_s = wrong_s
        assert clock.off((await reported(identity))["time"]) < 60
        await asyncio.to_thread(identity.renew)
        begin_s, end_s = certs.times_of((identity.folder / "working.pem").read_bytes())
        assert begin_s < clock.true() < end_s < clock.true() + 31 * DAY_S
        await reported(await hub.node("boat-1"))

    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            identity = await hub.node("drone-7")
            await wrong(hub, identity)
        async with hub_at(tmp_path, int(hub.address.rpartition(":")[2])) as hub:  # it starts with that clock
            await reported(identity)
            await asyncio.to_thread(identity.renew)
            clock.off_s = 0.0
            await reported(identity)
        async with hub_at(tmp_path, int(hub.address.rpartition(":")[2])):
            await reported(Identity(identity.folder))
        assert clock.off(Identity(identity.folder).floor_s) < 3700

    asyncio.run(case())


def test_a_certificate_that_has_ended_is_refused_by_the_hubs_time_and_another_one_is_given(
    tmp_path: Path, clock: Clock
) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            identity = await hub.node("drone-7")
            for days in (25, 50):  # as months that pass
                clock.off_s = days * DAY_S
                hub.state.clock.now_s()
            with pytest.raises(HubRefused, match="has ended") as refused:
                await reported(identity)
            assert refused.value.status == 403
            await asyncio.to_thread(identity.renew)
            await reported(identity)

    asyncio.run(case())


@pytest.mark.parametrize("wrong_s", WRONG)
def test_a_wrong_clock_removes_no_records_and_what_was_written_under_it_goes_when_it_is_old(
    tmp_path: Path, clock: Clock, wrong_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 100)

    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            await hub.node("drone-7")
            records = hub.state.records("drone-7")
            clock.off_s = wrong_s
            for number in range(5):
                records.receive(frame(number))
                newest = max((hub.folder / "hub/nodes/drone-7/records").glob("*.seg"))
                os.utime(newest, (clock(), clock()))  # as the system would
            assert hub.state.remove_records(30) == 0
            clock.off_s = 0.0
            assert hub.state.remove_records(30) == 0
            for days in (25, 40):
                clock.off_s = days * DAY_S
                hub.state.clock.now_s()
            assert hub.state.remove_records(30) == 4

    asyncio.run(case())


@pytest.mark.parametrize("wrong_s", WRONG)
def test_commands_are_valid_by_the_hubs_time_however_a_nodes_clock_steps(
    tmp_path: Path, clock: Clock, wrong_s: float
) -> None:
    outcomes: list[dict[str, Any]] = []

    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            identity = await hub.node("drone-7")
            commands = Commands("drone-7", identity.instance, frozenset({"hold"}), identity.signing, outcomes.append)
            for off_s in (0.0, wrong_s, 0.0, wrong_s):
                clock.off_s = off_s
                sent_ns = machine_ns()
                commands.heard(sent_ns, (await reported(identity))["time"])
                _, data = hub.state.command("drone-7", "hold", {}, 5.0)
                waiting = asyncio.create_task(commands.wait(5.0))
                await asyncio.sleep(0)
                commands.take(data)
                assert '"action": "hold"' in await waiting
            clock.off_s = 0.0
            _, data = hub.state.command("drone-7", "hold", {}, 1.0)
            commands.heard(machine_ns(), hub.state.clock.now_s() + 2.0)
            clock.off_s = wrong_s
            commands.take(data)

    asyncio.run(case())
    assert [each["done"] for each in outcomes] == [False]


@pytest.mark.parametrize(
    ("clock_s", "floor_s", "taken_s"),
    [(2.0e9, 0.0, 2.0e9), (2.0e9, 1.99e9, 2.0e9), (2.3e9, 2.0e9, 2.0e9), (0.0, 2.0e9, 2.0e9)],
)
def test_what_is_signed_for_an_autopilot_is_not_ten_years_ahead(clock_s: float, floor_s: float, taken_s: float) -> None:
    assert signing_time(clock_s, floor_s) == round((taken_s - 1_420_070_400) * 100_000)
