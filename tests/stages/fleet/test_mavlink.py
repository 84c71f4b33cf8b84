"""An autopilot is listened to over each kind of link, whatever else comes over it."""

from __future__ import annotations

import asyncio
import os
import pty
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_package
from tests.stages.fleet.agents import agent_at
from thalweg import Pipeline
from thalweg.pipeline.fleet.agent_socket import NODE, STATE
from thalweg.pipeline.fleet.telemetry import Telemetry
from thalweg.stages.fleet.mavlink import MavlinkError, MavlinkTelemetry
from thalweg.stages.fleet.mavlink_link import LARGEST_PIECE, QUEUED, MavlinkLink


@pytest.fixture(autouse=True)
def package() -> None:
    require_package("pymavlink", "edge")


class Autopilot:
    """Tells a heartbeat and a position each time, later and further north."""

    def __init__(self, system: int = 1) -> None:
        from pymavlink.dialects.v20 import common

        self._mav = common.MAVLink(None, srcSystem=system, srcComponent=1)
        self._number = 0

    def messages(self) -> bytes:
        n = self._number = self._number + 1
        told = [
            self._heartbeat(),
            self._mav.global_position_int_encode(100 * n, 470000000 + n, 80000000, 500000, 20000, 0, 0, 0, 0),
        ]
        return b"".join(message.pack(self._mav) for message in told)

    def heartbeat(self, armed: bool) -> bytes:
        return bytes(self._heartbeat(armed).pack(self._mav))

    def _heartbeat(self, armed: bool = False) -> Any:
        return self._mav.heartbeat_encode(2, 3, 128 if armed else 0, 4, 3)


async def heard(link: str, tell: Callable[[], Any], count: int = 5, patience_s: float = 20) -> list[Telemetry]:
    """What comes out of the stage while something is told, again and again."""
    pipeline = Pipeline("listen")
    pipeline.add("autopilot", "mavlink.telemetry", link=link)
    pipeline.expose("autopilot.telemetry")
    found: list[Telemetry] = []
    async with asyncio.timeout(patience_s), pipeline.run() as run, asyncio.TaskGroup() as group:
        telling = group.create_task(_again(tell))
        async for packet in run.packets("autopilot.telemetry"):
            assert isinstance(packet.payload, Telemetry)
            found.append(packet.payload)
            if len(found) >= count:
                break
        telling.cancel()
    return found


async def _again(tell: Callable[[], Any]) -> None:
    while True:
        await asyncio.sleep(0.05)
        tell()


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_over_udp_among_garbage_and_other_vehicles() -> None:
    port = free_udp_port()
    chance = random.Random(3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        mine, forged = Autopilot(), Autopilot(system=9)

        def tell() -> None:
            for piece in (mine.messages(), forged.messages(), forged.messages(), chance.randbytes(50)):
                sender.sendto(piece, ("127.0.0.1", port))

        found = asyncio.run(heard(f"udp:127.0.0.1:{port}", tell))
    norths = [round((one.latitude - 47) * 1e7) for one in found]
    assert norths == sorted(set(norths))


def test_a_flood_costs_what_is_old_and_neither_memory_nor_the_pipeline() -> None:
    port = free_udp_port()
    chance = random.Random(5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        mine, forged = Autopilot(), Autopilot(system=9)

        def tell() -> None:
            for _ in range(300):
                sender.sendto(chance.randbytes(1400), ("127.0.0.1", port))
                sender.sendto(forged.messages(), ("127.0.0.1", port))
            sender.sendto(mine.messages(), ("127.0.0.1", port))

        tell()
        found = asyncio.run(heard(f"udp:127.0.0.1:{port}", tell, patience_s=60))
    assert len(found) == 5

    async def case() -> None:
        link = MavlinkLink("udp:127.0.0.1:1")
        for number in range(3 * QUEUED):
            link._heard(b"%d" % number + bytes(2 * LARGEST_PIECE))
        assert (link.pieces.qsize(), link.flooded) == (QUEUED, 2 * QUEUED)
        piece, _ = link.pieces.get_nowait()
        assert piece.startswith(b"%d" % (2 * QUEUED)) and len(piece) == LARGEST_PIECE

    asyncio.run(case())


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """A serial line: where an autopilot writes, and the path of the other end."""
    ours, theirs = pty.openpty()
    yield ours, os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)


def test_over_a_serial_line_a_byte_at_a_time(line: tuple[int, str]) -> None:
    ours, path = line
    autopilot = Autopilot()

    def tell() -> None:
        data = autopilot.messages()
        for at in range(len(data)):
            os.write(ours, data[at : at + 1])

    assert len(asyncio.run(heard(f"serial:{path}:57600", tell))) == 5


def test_a_serial_line_that_was_unplugged_is_opened_again(line: tuple[int, str], tmp_path: Path) -> None:
    ours, path = line
    (tmp_path / "port").symlink_to(tmp_path / "gone")
    (tmp_path / "gone").touch()
    autopilot = Autopilot()

    def tell() -> None:
        (tmp_path / "new").symlink_to(path)
        (tmp_path / "new").replace(tmp_path / "port")
        os.write(ours, autopilot.messages())

    assert len(asyncio.run(heard(f"serial:{tmp_path}/port:57600", tell))) == 5


@pytest.mark.parametrize("link", ["", "udp", "udp:host", "carrier:pigeon:1", "serial:/dev/x:1234"])
def test_a_link_that_is_none_is_refused(link: str) -> None:
    with pytest.raises(MavlinkError, match="expected udp:HOST:PORT"):
        MavlinkTelemetry(link)


def test_an_agent_is_told_by_heartbeats_alone_whether_the_vehicle_is_armed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NODE, str(tmp_path / "agent"))
    port = free_udp_port()

    async def case() -> None:
        pipeline = Pipeline("listen")
        pipeline.add("autopilot", "mavlink.telemetry", link=f"udp:127.0.0.1:{port}")
        pipeline.expose("autopilot.telemetry")
        autopilot = Autopilot()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:

            def tell() -> None:
                sender.sendto(autopilot.heartbeat(armed=True), ("127.0.0.1", port))

            agent = agent_at(tmp_path / "agent")
            async with agent as told, asyncio.timeout(20), pipeline.run(), asyncio.TaskGroup() as group:
                telling = group.create_task(_again(tell))
                assert [await told.get() for _ in range(2)] == [(STATE, {"armed": True})] * 2
                telling.cancel()

    asyncio.run(case())
