"""The producer's end of a shared memory edge, and how it connects."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.signal import Signal
from thalweg.transports.codec import CodecError, decode_signal, encode, encode_signal, size_of
from thalweg.transports.link import TransportError, ignore
from thalweg.transports.shm.greeting import Greeting, encode_greeting
from thalweg.transports.shm.messages import LARGEST_MESSAGE, Wire, decode_count, decode_welcome
from thalweg.transports.shm.neighbour import is_ours
from thalweg.transports.shm.ring import SMALL, RingWriter, capacity_for


class ShmSender:
    """The producer's end; see `link.Sender` and `connect`."""

    def __init__(self, sock: socket.socket, window: int, next_seq: int, settled: int) -> None:
        self.next_seq = next_seq
        self.settled = settled
        self.on_room: Callable[[], None] = ignore
        self.on_signal: Callable[[Signal], None] = ignore
        self.on_ended: Callable[[], None] = ignore
        self.on_acknowledged: Callable[[int], None] = ignore
        self.on_bad: Callable[[str], None] = ignore
        self.on_lost: Callable[[str], None] = ignore
        self._credits = window
        self._ring = RingWriter(SMALL)
        self._wire = Wire(sock, self._handle, self._hung_up)
        self._wire.send(b"g", [self._ring.fd])

    @property
    def has_room(self) -> bool:
        """Whether there is a credit."""
        return self._credits > 0

    def offer(self, packet: Packet) -> bool:
        """Write a packet into the ring, where there is a credit and room."""
        if self._credits == 0:
            return False
        parts = encode(packet)
        size = size_of(parts)
        if 4 * size > self._ring.capacity and capacity_for(size) > self._ring.capacity:
            self._grow(size)
        if not self._ring.write(parts, size):
            self._wire.send(b"m")
            return False
        self._credits -= 1
        self._wire.send(b"r")
        return True

    def unreceived(self) -> list[Packet]:
        """See `link.Sender`: the consumer can read what was written into the ring even after the link has broken."""
        return []

    def signal(self, signal: Signal) -> None:
        """Send a signal down."""
        self._wire.send(b"s" + encode_signal(signal))

    def end(self) -> None:
        """Nothing more will come."""
        self._wire.send(b"e")

    def close(self) -> None:
        """Hang up; what the reader has not read yet stays readable for it."""
        self._wire.close()
        self._ring.close()

    def _grow(self, size: int) -> None:
        self._replace(capacity_for(size))

    def _replace(self, capacity: int) -> None:
        old, self._ring = self._ring, RingWriter(capacity)
        old.close()
        self._wire.send(b"g", [self._ring.fd])

    def _handle(self, message: bytes, fds: list[int]) -> None:
        kind, rest = message[:1], message[1:]
        if kind == b"c":
            self._credits += decode_count(rest)
            self.on_room()
        elif kind == b"f":
            self.on_room()
        elif kind == b"o":
            self._replace(self._ring.capacity)
            self.on_room()
        elif kind == b"u":
            self._hear(rest)
        elif kind == b"k":
            self.on_acknowledged(decode_count(rest))
        elif kind == b"e":
            self.on_ended()
        else:
            raise TransportError(f"the consumer sent a message of unknown kind {kind!r}")

    def _hear(self, written: bytes) -> None:
        try:
            signal = decode_signal(written)
        except CodecError as error:
            self.on_bad(f"a signal cannot be read, and is left out: {error}")
        else:
            self.on_signal(signal)

    def _hung_up(self, reason: str) -> None:
        self._ring.close()
        self.on_lost(reason)


async def connect(address: str, edge: str, token: str, *, generation: int = 0, timeout_s: float = 5.0) -> ShmSender:
    """The producer's end of an edge. Raises TransportError where there is no listener or it refuses."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        return await _greet(sock, address, edge, token, generation, timeout_s)
    except BaseException:  # a connection given up on is closed, too
        sock.close()
        raise


async def _greet(
    sock: socket.socket, address: str, edge: str, token: str, generation: int, timeout_s: float
) -> ShmSender:
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    try:
        async with asyncio.timeout(timeout_s):
            await loop.sock_connect(sock, f"\0{address}")
            if not is_ours(sock):
                raise TransportError(f"{address} belongs to another user of this machine: the token was not told")
            hello = Greeting(edge=edge, token=token, generation=generation)
            await loop.sock_sendall(sock, encode_greeting(hello))
            answer = await loop.sock_recv(sock, LARGEST_MESSAGE)
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or "no answer"
        raise TransportError(f"cannot connect {edge} to {address}: {reason}") from None
    if answer[:1] != b"w":
        raise TransportError(f"{address} refused {edge}: {answer[1:].decode(errors='replace') or 'it hung up'}")
    try:
        return ShmSender(sock, *decode_welcome(answer[1:]))
    except ThalwegError as error:
        raise TransportError(f"cannot connect {edge} to {address}: {error}") from None
