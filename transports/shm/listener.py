"""Where producers on this host connect: who may come in, and to which receiver."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
from collections.abc import Callable

from thalweg.pipeline.decoding import shown
from thalweg.transports.link import TransportError
from thalweg.transports.shm.greeting import decode_greeting
from thalweg.transports.shm.messages import LARGEST_MESSAGE, encode_welcome
from thalweg.transports.shm.neighbour import is_ours
from thalweg.transports.shm.receiver import ShmReceiver

_GREETING_AT_MOST = 64
_BREATHER_S = 0.2


class ShmListener:
    """Where the producers of a worker's edges connect. `address`: a name in the abstract namespace.

    `accepted(edge, receiver)` is called for each edge that was announced by `expect` when its producer has come, and
    again when one of a higher generation comes in its place. `position(edge)`: `next_seq` and `settled` of
    `link.Sender`. A wrong token, another version or an old generation is told why and hung up on; other users of the
    machine are only hung up on.
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
        if not is_ours(sock):  # a stranger must not use up a place
            sock.close()
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
            message = sock.recv(LARGEST_MESSAGE)
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
            sock.send(b"w" + encode_welcome(window, *self._position(edge)))
        except OSError:  # it has hung up again; the next one needs a higher generation, as after any loss
            sock.close()
            return
        self._accepted(edge, ShmReceiver(sock, window))

    def _admit(self, message: bytes) -> str:
        """The edge whose producer says hello. Raises TransportError where it may not come in."""
        hello = decode_greeting(message)
        if not hmac.compare_digest(hello.token.encode(errors="surrogatepass"), self._token.encode()):
            raise TransportError("the token is wrong")
        if hello.edge not in self._windows:
            raise TransportError(f"no edge {shown(hello.edge)} is expected here")
        if hello.generation <= self._generations.get(hello.edge, -1):
            raise TransportError(f"edge {shown(hello.edge)} is connected already")
        self._generations[hello.edge] = hello.generation
        return hello.edge

    def _drop(self, sock: socket.socket) -> None:
        self._greeting.pop(sock, None)
        self._loop.remove_reader(sock)
        sock.close()
