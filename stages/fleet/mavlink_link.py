"""A link to an autopilot: UDP, TCP or a serial line, opened again whenever it breaks. Bytes only, no MAVLink."""

from __future__ import annotations

import asyncio
import os
import termios
import tty
from collections.abc import Callable
from typing import Any

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.stage import Context

QUEUED = 256
LARGEST_PIECE = 4096
_SPEEDS = {57600: termios.B57600, 115200: termios.B115200, 230400: termios.B230400, 921600: termios.B921600}


class MavlinkError(ThalwegError):
    """An autopilot that cannot be listened to, or told anything."""


class MavlinkLink:
    """`udp:HOST:PORT` to listen at, `tcp:HOST:PORT` or `serial:PATH:SPEED`. Raises MavlinkError on anything else.

    `pieces`: what was received, at most `QUEUED` items, over UDP each with its sender's address; `flooded`: how many
    were dropped for room. `answers`: it writes, too; without it a serial line is opened read-only. Over UDP it writes
    to the peer of `answer`; any peer can send there, and none is verified here.
    """

    def __init__(self, link: str, *, answers: bool = False) -> None:
        self._kind, self._place, self._number = _parse(link)
        self._link = link
        self._answers = answers
        self._write: Callable[[bytes], None] | None = None
        self._peer: Any = None
        self.pieces: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue(QUEUED)
        self.flooded = 0

    def write(self, data: bytes) -> bool:
        """Send. Returns False where the link is not open or, over UDP, has no peer yet."""
        if not self._answers or self._write is None:
            return False
        try:
            self._write(data)
        except OSError:
            return False
        return True

    def answer(self, peer: Any) -> None:
        """Over UDP: write to this peer, the sender of a piece, from now on."""
        self._peer = peer

    def _heard(self, piece: bytes, peer: Any = None) -> None:
        """From the link; what is too much is dropped, the newest last."""
        if self.pieces.full():
            self.pieces.get_nowait()
            self.flooded += 1
        self.pieces.put_nowait((piece[:LARGEST_PIECE], peer))

    async def listen(self, ctx: Context) -> None:
        """Until it is cancelled."""
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

        def write(data: bytes) -> None:
            if self._peer is None:
                raise OSError("no peer has sent anything yet")
            transport.sendto(data, self._peer)

        self._write = write
        try:
            await protocol.lost
        finally:
            self._write = None
            transport.close()

    async def _tcp(self) -> None:
        reader, writer = await asyncio.open_connection(self._place, self._number)
        self._write = writer.write
        try:
            while piece := await reader.read(LARGEST_PIECE):
                self._heard(piece)
        finally:
            self._write = None
            writer.close()

    async def _serial(self) -> None:
        loop = asyncio.get_running_loop()
        port = os.open(
            self._place, (os.O_RDWR if self._answers else os.O_RDONLY) | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
        )
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
            self._write = lambda data: _write_whole(port, data)
            await ended
        finally:
            self._write = None
            loop.remove_reader(port)
            os.close(port)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, heard: Callable[[bytes, Any], None]) -> None:
        self._heard = heard
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._heard(data, addr)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


def _write_whole(port: int, data: bytes) -> None:
    """Raises OSError where the line takes less than all of it: it is a few dozen bytes."""
    if os.write(port, data) != len(data):
        raise OSError("the line is busy")


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
