"""Messages over the socket of a shared memory edge, in order and without waiting."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from time import monotonic

from thalweg.pipeline.decoding import decoder
from thalweg.pipeline.errors import ThalwegError
from thalweg.transports.link import TransportError, ignore

_COUNT = struct.Struct("<I")
_WELCOME = struct.Struct("<IQQ")
LARGEST_MESSAGE = 1 << 16
_UNSENT_AT_MOST = 1 << 26
_PER_MESSAGE = 128
_PER_WAKE_UP = 256
_SOON_S = 0.001
_DESCRIPTOR = struct.Struct("i")
_ROOM_FOR_A_DESCRIPTOR = socket.CMSG_LEN(_DESCRIPTOR.size)


def encode_count(count: int) -> bytes:
    """How many packets were taken, or need never be sent again."""
    return _COUNT.pack(count)


@decoder(TransportError, "the number of packets")
def decode_count(written: bytes) -> int:
    """The number. Raises TransportError."""
    count: int = _COUNT.unpack(written)[0]
    return count


def encode_welcome(window: int, next_seq: int, settled: int) -> bytes:
    """What a producer is told that may come in: see `link.Sender`."""
    return _WELCOME.pack(window, next_seq, settled)


@decoder(TransportError, "the welcome")
def decode_welcome(written: bytes) -> tuple[int, int, int]:
    """`window`, `next_seq`, `settled`. Raises TransportError."""
    window, next_seq, settled = _WELCOME.unpack(written)
    return window, next_seq, settled


class Wire:
    """A seqpacket socket on the loop: sends without waiting, keeping order, and hands over what comes.

    `handle` is given a message and the descriptors that came with it, and takes those that it keeps out of the list.
    """

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
        self._unsent_bytes = 0
        self._buffer = bytearray(LARGEST_MESSAGE)
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
        self._unsent_bytes += len(message) + _PER_MESSAGE
        if self._unsent_bytes > _UNSENT_AT_MOST:
            self.broken("the other end does not read")

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
            self._unsent_bytes -= len(message) + _PER_MESSAGE
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
                self.broken(f"a message of more than {LARGEST_MESSAGE} bytes")
                return
            fds = [
                _DESCRIPTOR.unpack(data)[0]
                for level, kind, data in ancillary
                if (level, kind, len(data)) == (socket.SOL_SOCKET, socket.SCM_RIGHTS, _DESCRIPTOR.size)
            ]
            try:
                self._handle(bytes(self._buffer[:size]), fds)
            except ThalwegError as error:
                self.broken(str(error))
            finally:
                for fd in fds:  # one that came along with a message that takes none
                    os.close(fd)
            if not self.open:
                return
        self._handled()

    def broken(self, reason: str) -> None:
        """Hang up and say why; what was announced before is handed over first."""
        self._handled()
        if self.open:
            self.close()
            self._lost(reason)
