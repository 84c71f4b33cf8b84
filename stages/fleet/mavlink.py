"""`mavlink.telemetry`: listens to an autopilot. It sends it nothing, ever."""

from __future__ import annotations

import asyncio
import os
import termios
import tty
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.telemetry import Telemetry, Vehicle
from thalweg.pipeline.stage import Context
from thalweg.stages.fleet.agent_link import AgentLink

QUEUED = 256
LARGEST_PIECE = 4096
_SPEEDS = {57600: termios.B57600, 115200: termios.B115200, 230400: termios.B230400, 921600: termios.B921600}
_WANTED = ("HEARTBEAT", "GLOBAL_POSITION_INT", "ATTITUDE", "SYS_STATUS")


class MavlinkError(ThalwegError):
    """An autopilot that cannot be listened to."""


class MavlinkTelemetry:
    """Position, attitude, battery and mode of one vehicle, a packet per position, at the time it was measured.

    Whatever comes over the link, garbage, floods, other vehicles, numbers that cannot be, is left out and counted; a
    link that breaks is opened again. Messages are not verified: who can write to the link can lie about where the
    vehicle is, within what a vehicle can do. Take a link that only the autopilot writes to.

    On a node its agent is told with every heartbeat whether the vehicle is armed, positions or not.
    """

    outputs = {"telemetry": Telemetry}

    def __init__(
        self,
        link: Annotated[
            str, Field(description="`udp:HOST:PORT` to listen at, `tcp:HOST:PORT`, or `serial:/dev/ttyACM0:57600`")
        ],
        system: Annotated[int, Field(ge=0, le=255, description="system id to believe; 0: the first autopilot")] = 0,
    ) -> None:
        self._kind, self._place, self._number = _parse(link)
        self._link = link
        self._vehicle = Vehicle(system)
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(QUEUED)
        self._parser: Any = None
        self._flooded = 0
        self._agent = AgentLink()
        self._heartbeat = asyncio.Event()

    @property
    def counts(self) -> dict[str, int]:
        """What was left out."""
        return {**self._vehicle.counts, "flooded": self._flooded}

    def open(self, ctx: Context) -> None:
        """Raises MavlinkError where the package is missing."""
        try:
            from pymavlink.dialects.v20 import common
        except ImportError:
            raise MavlinkError("mavlink.telemetry needs pymavlink: pip install 'thalweg[edge]'") from None
        self._parser = common.MAVLink(None)
        self._parser.robust_parsing = True

    async def run(self, ctx: Context) -> None:
        """Until the pipeline ends."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(ctx))
            if self._agent.there:
                group.create_task(self._tell_agent())
            while True:
                piece = await self._pieces.get()
                for kind, fields, system, component in self._messages(piece):
                    heartbeats = self._vehicle.heartbeats
                    told = self._vehicle.hear(kind, fields, system, component, ctx.now_ns())
                    if self._vehicle.heartbeats != heartbeats:
                        self._heartbeat.set()
                    if told is not None:
                        await ctx.send(told[1], time=told[0])

    async def _tell_agent(self) -> None:
        """The newest heartbeat; an agent that is away is told with the next."""
        try:
            while True:
                await self._heartbeat.wait()
                self._heartbeat.clear()
                await self._agent.tell({"armed": self._vehicle.armed})
        finally:
            self._agent.close()

    def _messages(self, piece: bytes) -> list[tuple[str, dict[str, Any], int, int]]:
        found = []
        for message in self._parser.parse_buffer(piece) or ():
            kind = message.get_type()
            if kind == "BAD_DATA":
                self._vehicle.counts["garbage"] += 1
            elif kind in _WANTED:
                fields = {name: getattr(message, name) for name in message.fieldnames}
                found.append((kind.lower(), fields, message.get_srcSystem(), message.get_srcComponent()))
        return found

    def _heard(self, piece: bytes) -> None:
        """From the link; what is too much is dropped, the newest last."""
        if self._pieces.full():
            self._pieces.get_nowait()
            self._flooded += 1
        self._pieces.put_nowait(piece[:LARGEST_PIECE])

    async def _listen(self, ctx: Context) -> None:
        ways = {"udp": self._udp, "tcp": self._tcp, "serial": self._serial}
        while True:
            try:
                await ways[self._kind]()
                reason = "it was closed"
            except OSError as error:
                reason = error.strerror or str(error)
            ctx.report(f"{self._link}: {reason}; it is opened again")
            await asyncio.sleep(1.0)

    async def _udp(self) -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._heard), local_addr=(self._place, self._number)
        )
        try:
            await protocol.lost
        finally:
            transport.close()

    async def _tcp(self) -> None:
        reader, writer = await asyncio.open_connection(self._place, self._number)
        try:
            while piece := await reader.read(LARGEST_PIECE):
                self._heard(piece)
        finally:
            writer.close()

    async def _serial(self) -> None:
        loop = asyncio.get_running_loop()
        port = os.open(self._place, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        ended: asyncio.Future[None] = loop.create_future()

        def readable() -> None:
            try:
                piece = os.read(port, LARGEST_PIECE)
            except BlockingIOError:
                return
            except OSError as error:
                piece = b""
                if not ended.done():
                    ended.set_exception(error)
            if piece:
                self._heard(piece)
            elif not ended.done():
                ended.set_result(None)

        try:
            _set_up(port, self._number)
            loop.add_reader(port, readable)
            await ended
        finally:
            loop.remove_reader(port)
            os.close(port)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, heard: Callable[[bytes], None]) -> None:
        self._heard = heard
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._heard(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


def _set_up(port: int, speed: int) -> None:
    """Raises OSError where it is no serial line (any more)."""
    try:
        tty.setraw(port)
        settings = termios.tcgetattr(port)
        settings[4] = settings[5] = _SPEEDS[speed]
        termios.tcsetattr(port, termios.TCSANOW, settings)
    except termios.error as error:  # which is no OSError
        raise OSError(*error.args) from None


def _parse(link: str) -> tuple[str, str, int]:
    kind, _, rest = link.partition(":")
    place, _, number = rest.rpartition(":")
    known = kind in ("udp", "tcp", "serial") and place and number.isdecimal()
    if not known or (kind == "serial" and int(number) not in _SPEEDS) or int(number) > 1_000_000:
        speeds = ", ".join(map(str, _SPEEDS))
        raise MavlinkError(
            f"link is {link!r}, expected udp:HOST:PORT, tcp:HOST:PORT or serial:PATH:SPEED, with a speed of {speeds}"
        )
    return kind, place.strip("[]"), int(number)
