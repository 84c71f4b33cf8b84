"""The consumer's end of a shared memory edge."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.signal import Signal
from thalweg.transports.codec import CodecError, decode, decode_signal, encode_signal
from thalweg.transports.link import TransportError, Unreadable, ignore
from thalweg.transports.shm.messages import Wire, encode_count
from thalweg.transports.shm.ring import RingReader


class ShmReceiver:
    """The consumer's end; see `link.Receiver` and `ShmListener`."""

    def __init__(self, sock: socket.socket, window: int) -> None:
        self.on_packet: Callable[[], None] = ignore
        self.on_signal: Callable[[Signal], None] = ignore
        self.on_end: Callable[[], None] = ignore
        self.on_bad: Callable[[str], None] = ignore
        self.on_lost: Callable[[str], None] = ignore
        self.unreadable = Unreadable()
        self._window = window
        self._rings: deque[tuple[RingReader, list[int]]] = deque()
        self._taken = 0
        self._read = 0
        self._wanted = False
        self._ending = False
        self._fresh = False
        self._crediting = False
        self._loop = asyncio.get_running_loop()
        self._wire = Wire(sock, self._handle, self._hung_up, self._announced)

    def take(self) -> Packet | None:
        """The next packet, decoded; its large arrays are views of the ring until they are let go.

        What cannot be decoded is told by `on_bad`, and the next one is given; a ring that is damaged ends the link.
        """
        rings = self._rings
        while rings:
            reader, announced = rings[0]
            if not announced[0]:
                if len(rings) == 1:
                    break
                rings.popleft()
                continue
            announced[0] -= 1
            try:
                record = reader.read()
            except ThalwegError as error:
                self._wire.broken(str(error))
                return None
            self._taken += 1
            try:
                packet = decode(record)
            except ThalwegError as error:
                self.unreadable.left_out(self._read)
                self.on_bad(f"a packet that came cannot be read, and is left out: {error}")
                self._has_taken()
                continue
            self._read += 1
            self._has_taken()
            return packet
        return None

    def acknowledge(self, count: int) -> None:
        """Let the producer forget packets."""
        self._wire.send(b"k" + encode_count(self.unreadable.acknowledged(count)))

    def signal(self, signal: Signal) -> None:
        """Send a signal up."""
        self._wire.send(b"u" + encode_signal(signal))

    def close(self) -> None:
        """Hang up."""
        self._wire.close()

    def _has_taken(self) -> None:
        """Let the producer know, where it is worth it or waits for it."""
        if 2 * self._taken >= self._window and not self._crediting:
            self._crediting = True
            self._loop.call_soon(self._credit)
        if self._wanted:
            self._wanted = False
            self._wire.send(b"f")
        if self._ending and not self._waiting:
            self._finish()

    @property
    def _waiting(self) -> bool:
        """Whether anything was announced and not taken."""
        return any(count[0] for _, count in self._rings)

    def _credit(self) -> None:
        self._crediting = False
        self._wire.send(b"c" + encode_count(self._taken))
        self._taken = 0

    def _announced(self) -> None:
        if self._fresh:
            self._fresh = False
            self.on_packet()

    def _finish(self) -> None:
        self._ending = False
        self._wire.send(b"e")
        self.on_end()

    def _handle(self, message: bytes, fds: list[int]) -> None:
        kind, rest = message[:1], message[1:]
        if kind == b"r":
            if not self._rings:
                raise TransportError("the producer announced a record before it gave a ring")
            self._rings[-1][1][0] += 1
            self._fresh = True
        elif kind == b"g" and fds:
            self._rings.append((RingReader(fds.pop()), [0]))
        elif kind == b"s":
            self._hear(rest)
        elif kind == b"m":
            if self._waiting:
                self._wanted = True
            else:
                self._wire.send(b"o" if self._rings and self._rings[-1][0].lent else b"f")
        elif kind == b"e":
            self._ending = True
            if not self._waiting:
                self._finish()
        else:
            raise TransportError(f"the producer sent a message of unknown kind {kind!r}")

    def _hear(self, written: bytes) -> None:
        try:
            signal = decode_signal(written)
        except CodecError as error:
            self.on_bad(f"a signal that came cannot be read, and is left out: {error}")
        else:
            self.on_signal(signal)

    def _hung_up(self, reason: str) -> None:
        self.on_lost(reason)
