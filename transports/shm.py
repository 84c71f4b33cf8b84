"""Edges between processes of one host: records in shared memory, everything else over a Unix socket.

Theory of operation. The consumer's worker listens; the producer's connects and says who it is. The socket keeps
message borders (SOCK_SEQPACKET) and order, its name is in the kernel's abstract namespace, and so nothing of it is
ever left in a file system. Messages, by their first byte:

    down   h hello     version, edge, token, generation        up   w welcome   window u32, next, settled u64
           g ring      its descriptor comes along                   n no        why
           r           one more record is in the ring               c credit    packets that were taken, u32
           s signal                                                  u signal
           m           there is no room: say when there is           f           there is room
                                                                     o           lent views fill the ring: a new one
           e           end                                           e           all was taken
                                                                     k           packets acknowledged, u32

A producer that needs a larger ring makes one and hands it over; what is still in the old one is read first,
because messages keep their order. So it does where the consumer keeps packets for so long that their memory, which is
the ring's, is missing: the old ring goes when they go, and nobody waits for that.

What makes a hop quick: the packet is handed on within the callback that heard of it; credits are given back by half
windows and after the consumer has worked, because waking the producer gives it the processor; and the socket is read
once, because finding nothing there costs as much as the message, unless messages come in quick succession.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from time import monotonic

import msgpack

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.signal import Signal
from thalweg.transports.codec import VERSION, decode, decode_signal, encode, encode_signal, size_of
from thalweg.transports.link import TransportError, ignore
from thalweg.transports.ring import SMALL, RingReader, RingWriter, capacity_for

_COUNT = struct.Struct("<I")
_WELCOME = struct.Struct("<IQQ")
_LARGEST_MESSAGE = 1 << 16
_PER_WAKE_UP = 256
_GREETING_AT_MOST = 64
_BREATHER_S = 0.2
_SOON_S = 0.001
_DESCRIPTOR = struct.Struct("i")
_ROOM_FOR_A_DESCRIPTOR = socket.CMSG_LEN(_DESCRIPTOR.size)


class _Wire:
    """A seqpacket socket on the loop: sends without waiting, keeping order, and hands over what comes."""

    def __init__(
        self,
        sock: socket.socket,
        handle: Callable[[bytes, list[int]], None],
        lost: Callable[[str], None],
        handled: Callable[[], None] = ignore,
    ):
        self._sock = sock
        self._handle = handle
        self._handled = handled
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self._buffer = bytearray(_LARGEST_MESSAGE)
        self._read_s = 0.0
        self.open = True
        self._loop.add_reader(sock, self._readable)

    def send(self, message: bytes, fds: list[int] | None = None) -> None:
        if not self.open:
            return
        if not self._unsent:
            try:
                socket.send_fds(self._sock, [message], fds) if fds else self._sock.send(message)
                return
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._writable)
            except OSError as error:
                self.broken(error.strerror or str(error))
                return
        self._unsent.append((message, [os.dup(fd) for fd in fds or []]))

    def close(self) -> None:
        if self.open:
            self.open = False
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()
            for fd in (fd for _, fds in self._unsent for fd in fds):
                os.close(fd)
            self._unsent.clear()

    def _writable(self) -> None:
        while self._unsent:
            message, fds = self._unsent[0]
            try:
                socket.send_fds(self._sock, [message], fds) if fds else self._sock.send(message)
            except BlockingIOError:
                return
            except OSError as error:
                self.broken(error.strerror or str(error))
                return
            self._unsent.popleft()
            for fd in fds:
                os.close(fd)
        self._loop.remove_writer(self._sock)

    def _readable(self) -> None:
        now_s = monotonic()
        at_most = _PER_WAKE_UP if now_s - self._read_s < _SOON_S else 1
        self._read_s = now_s
        for _ in range(at_most):
            try:
                size, ancillary, flags, _ = self._sock.recvmsg_into([self._buffer], _ROOM_FOR_A_DESCRIPTOR)
            except BlockingIOError:
                break
            except OSError as error:
                self.broken(error.strerror or str(error))
                return
            if not size:
                self.broken("the other end hung up")
                return
            if flags & socket.MSG_TRUNC:
                self.broken(f"a message of more than {_LARGEST_MESSAGE} bytes")
                return
            fds = [_DESCRIPTOR.unpack(data)[0] for _, _, data in ancillary]
            try:
                self._handle(bytes(self._buffer[:size]), fds)
            except (ThalwegError, struct.error) as error:
                self.broken(str(error))
            if not self.open:
                return
        self._handled()

    def broken(self, reason: str) -> None:
        """Hang up and say why; what was announced before is handed over first."""
        self._handled()
        if self.open:
            self.close()
            self._lost(reason)


class ShmSender:
    """The producer's end; see `link.Sender` and `connect`."""

    def __init__(self, sock: socket.socket, window: int, next_seq: int, settled: int) -> None:
        self.next_seq = next_seq
        self.settled = settled
        self.on_room: Callable[[], None] = ignore
        self.on_signal: Callable[[Signal], None] = ignore
        self.on_ended: Callable[[], None] = ignore
        self.on_acknowledged: Callable[[int], None] = ignore
        self.on_lost: Callable[[str], None] = ignore
        self._credits = window
        self._ring = RingWriter(SMALL)
        self._wire = _Wire(sock, self._handle, self._hung_up)
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
            self._credits += _COUNT.unpack(rest)[0]
            self.on_room()
        elif kind == b"f":
            self.on_room()
        elif kind == b"o":
            self._replace(self._ring.capacity)
            self.on_room()
        elif kind == b"u":
            self.on_signal(decode_signal(rest))
        elif kind == b"k":
            self.on_acknowledged(_COUNT.unpack(rest)[0])
        elif kind == b"e":
            self.on_ended()
        else:
            raise TransportError(f"the consumer sent a message of unknown kind {kind!r}")

    def _hung_up(self, reason: str) -> None:
        self._ring.close()
        self.on_lost(reason)


class ShmReceiver:
    """The consumer's end; see `link.Receiver` and `ShmListener`."""

    def __init__(self, sock: socket.socket, window: int) -> None:
        self.on_packet: Callable[[], None] = ignore
        self.on_signal: Callable[[Signal], None] = ignore
        self.on_end: Callable[[], None] = ignore
        self.on_lost: Callable[[str], None] = ignore
        self._window = window
        self._rings: deque[tuple[RingReader, list[int]]] = deque()
        self._taken = 0
        self._wanted = False
        self._ending = False
        self._fresh = False
        self._crediting = False
        self._loop = asyncio.get_running_loop()
        self._wire = _Wire(sock, self._handle, self._hung_up, self._announced)

    def take(self) -> Packet | None:
        """The next packet, decoded; its large arrays are views of the ring until they are let go."""
        while self._rings and not self._rings[0][1][0] and len(self._rings) > 1:
            self._rings.popleft()
        if not self._rings or not self._rings[0][1][0]:
            return None
        reader, announced = self._rings[0]
        announced[0] -= 1
        try:
            packet = decode(reader.read())
        except ThalwegError as error:
            self._wire.broken(str(error))
            return None
        self._taken += 1
        if 2 * self._taken >= self._window and not self._crediting:
            self._crediting = True
            self._loop.call_soon(self._credit)
        if self._wanted:
            self._wanted = False
            self._wire.send(b"f")
        if self._ending and not self._waiting:
            self._finish()
        return packet

    def acknowledge(self, count: int) -> None:
        """Let the producer forget packets."""
        self._wire.send(b"k" + _COUNT.pack(count))

    def signal(self, signal: Signal) -> None:
        """Send a signal up."""
        self._wire.send(b"u" + encode_signal(signal))

    def close(self) -> None:
        """Hang up."""
        self._wire.close()

    @property
    def _waiting(self) -> bool:
        """Whether anything was announced and not taken."""
        return any(count[0] for _, count in self._rings)

    def _credit(self) -> None:
        self._crediting = False
        self._wire.send(b"c" + _COUNT.pack(self._taken))
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
            self._rings.append((RingReader(fds[0]), [0]))
        elif kind == b"s":
            self.on_signal(decode_signal(rest))
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

    def _hung_up(self, reason: str) -> None:
        self.on_lost(reason)


class ShmListener:
    """Where the producers of a worker's edges connect. `address`: a name in the abstract namespace.

    `accepted(edge, receiver)` is called for each edge that was announced by `expect` when its producer has come, and
    again when one of a higher generation comes in its place. `position(edge)`: `next_seq` and `settled` of
    `link.Sender`. A stranger, a wrong token, another version or an old generation is told why and hung up on.
    """

    def __init__(
        self,
        address: str,
        token: str,
        accepted: Callable[[str, ShmReceiver], None],
        position: Callable[[str], tuple[int, int]] = lambda _: (0, 0),
    ) -> None:
        self.address = address
        self._token = token
        self._accepted = accepted
        self._position = position
        self._windows: dict[str, int] = {}
        self._generations: dict[str, int] = {}
        self._greeting: dict[socket.socket, None] = {}
        self._loop = asyncio.get_running_loop()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock.setblocking(False)
        try:
            self._sock.bind(f"\0{address}")
        except OSError as error:
            self._sock.close()
            raise TransportError(f"cannot listen at {address}: {error.strerror}") from None
        self._sock.listen(64)
        self._loop.add_reader(self._sock, self._accept)

    def expect(self, edge: str, window: int) -> None:
        """The producer of this edge may connect, and have `window` packets under way."""
        self._windows[edge] = window

    def close(self) -> None:
        """Stop listening; connections made go on."""
        self._loop.remove_reader(self._sock)
        self._sock.close()
        for sock in list(self._greeting):
            self._drop(sock)

    def _accept(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except BlockingIOError:
            return
        except OSError:  # no descriptors are left: trying again at once would only keep the loop busy
            self._loop.remove_reader(self._sock)
            self._loop.call_later(_BREATHER_S, self._breathe)
            return
        sock.setblocking(False)
        self._greeting[sock] = None
        if len(self._greeting) > _GREETING_AT_MOST:
            self._drop(next(iter(self._greeting)))
        self._loop.add_reader(sock, self._greet, sock)

    def _breathe(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock, self._accept)

    def _greet(self, sock: socket.socket) -> None:
        try:
            message = sock.recv(_LARGEST_MESSAGE)
            edge = self._admit(message)
        except BlockingIOError:
            return
        except (TransportError, OSError) as error:
            if isinstance(error, TransportError):
                with contextlib.suppress(OSError):
                    sock.send(b"n" + str(error).encode())
            self._drop(sock)
            return
        self._greeting.pop(sock, None)
        self._loop.remove_reader(sock)
        window = self._windows[edge]
        try:
            sock.send(b"w" + _WELCOME.pack(window, *self._position(edge)))
        except OSError:  # it has hung up again; the next one needs a higher generation, as after any loss
            sock.close()
            return
        self._accepted(edge, ShmReceiver(sock, window))

    def _admit(self, message: bytes) -> str:
        """The edge whose producer says hello. Raises TransportError where it may not come in."""
        try:
            hello = msgpack.unpackb(message[1:]) if message[:1] == b"h" else None
            version, edge, token = hello["version"], hello["edge"], hello["token"]  # type: ignore[index]
            generation = int(hello["generation"]) if version == VERSION else 0  # type: ignore[index]
        except (ValueError, TypeError, KeyError, msgpack.UnpackException):
            raise TransportError("that was no greeting of Thalweg's") from None
        if version != VERSION:
            raise TransportError(f"wire version {version} connects to wire version {VERSION}: install the same Thalweg")
        if not isinstance(token, str) or not hmac.compare_digest(token.encode(), self._token.encode()):
            raise TransportError("the token is wrong")
        if edge not in self._windows:
            raise TransportError(f"no edge {edge!r} is expected here")
        if generation <= self._generations.get(edge, -1):
            raise TransportError(f"edge {edge!r} is connected already")
        self._generations[edge] = generation
        return str(edge)

    def _drop(self, sock: socket.socket) -> None:
        self._greeting.pop(sock, None)
        self._loop.remove_reader(sock)
        sock.close()


async def connect(address: str, edge: str, token: str, *, generation: int = 0, timeout_s: float = 5.0) -> ShmSender:
    """The producer's end of an edge. Raises TransportError where nobody listens or the greeting is refused."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    try:
        async with asyncio.timeout(timeout_s):
            await loop.sock_connect(sock, f"\0{address}")
            hello = {"version": VERSION, "edge": edge, "token": token, "generation": generation}
            await loop.sock_sendall(sock, b"h" + msgpack.packb(hello))
            answer = await loop.sock_recv(sock, _LARGEST_MESSAGE)
    except (OSError, TimeoutError) as error:
        sock.close()
        reason = getattr(error, "strerror", None) or "no answer"
        raise TransportError(f"cannot connect {edge} to {address}: {reason}") from None
    if answer[:1] != b"w":
        sock.close()
        raise TransportError(f"{address} refused {edge}: {answer[1:].decode(errors='replace') or 'it hung up'}")
    try:
        return ShmSender(sock, *_WELCOME.unpack(answer[1:]))
    except (ThalwegError, struct.error) as error:
        sock.close()
        raise TransportError(f"cannot connect {edge} to {address}: {error}") from None
