"""The producer's end of a gRPC edge: connects, and again when the connection breaks."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.signal import Interrupt, Signal
from thalweg.transports.codec import VERSION, decode_signal, encode, encode_signal, size_of
from thalweg.transports.grpc import limits
from thalweg.transports.grpc.tls import NAME, Certificates
from thalweg.transports.grpc.wire import METHOD, Frame, record_frame, to_bytes
from thalweg.transports.link import TransportError, ignore

_REFUSALS = ("PERMISSION_DENIED", "UNAUTHENTICATED")


class GrpcSender:
    """The producer's end; see `link.Sender`. `connected` must be awaited once, `close` called in the end."""

    def __init__(
        self,
        address: str,
        edge: str,
        token: str,
        certificates: Certificates | None = None,
        *,
        generation: int = 0,
        patience_s: float = 10.0,
    ) -> None:
        self.next_seq = 0
        self.settled = 0
        self.on_room: Callable[[], None] = ignore
        self.on_signal: Callable[[Signal], None] = ignore
        self.on_ended: Callable[[], None] = ignore
        self.on_acknowledged: Callable[[int], None] = ignore
        self.on_lost: Callable[[str], None] = ignore
        self.reconnects = 0
        self._generation = generation
        self._acknowledged = 0
        self._interrupt: bytes | None = None
        self._address = address
        self._edge = edge
        self._token = token
        self._certificates = certificates
        self._patience_s = patience_s
        self._session = secrets.token_bytes(8)
        self._window = 0
        self._number = 0
        self._taken = 0
        self._kept: deque[tuple[int, bytes]] = deque()
        self._signals: deque[bytes] = deque()
        self._sent = 0
        self._ending = False
        self._done = False
        self._news = asyncio.Event()
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def connected(self) -> None:
        """Wait for the consumer's welcome. Raises TransportError where it does not come."""
        await self._first

    @property
    def has_room(self) -> bool:
        """Whether the window allows another packet."""
        return self._number - self._taken < self._window

    def offer(self, packet: Packet) -> bool:
        """Keep a packet and send it, where the window allows."""
        if not self.has_room:
            return False
        parts = encode(packet)
        self._kept.append((self._number, record_frame(self._number, parts, size_of(parts))))
        self._number += 1
        self._news.set()
        return True

    def signal(self, signal: Signal) -> None:
        """Send a signal down, before any packet that still waits."""
        self._signals.append(encode_signal(signal))
        if isinstance(signal, Interrupt):
            self._interrupt = self._signals[-1]
        self._news.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._ending = True
        self._news.set()

    def close(self) -> None:
        """Hang up."""
        self._done = True
        self._task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        wait_s = 0.05
        since: float | None = None
        while not self._done:
            received = self._taken
            try:
                await self._connection()
            except TransportError as error:
                return self._give_up(str(error))
            except asyncio.CancelledError:
                raise
            except Exception as error:  # grpc raises half a dozen unrelated kinds where a connection breaks
                reason = _reason(error)
                if _is_refusal(error):
                    return self._give_up(f"refused: {reason}")
            else:
                reason = "the consumer hung up"
            if self._done:
                return None
            now = loop.time()
            progressed = self._taken > received
            since = now if since is None or progressed else since
            wait_s = 0.05 if progressed else min(1.0, 2 * wait_s)
            if now - since > (self._patience_s if self._first.done() else limits.GREETING_S):
                return self._give_up(reason)
            self.reconnects += 1
            await asyncio.sleep(wait_s)
        return None

    def _give_up(self, reason: str) -> None:
        if not self._first.done():
            self._first.set_exception(TransportError(f"cannot connect {self._edge} to {self._address}: {reason}"))
        else:
            self.on_lost(reason)

    async def _connection(self) -> None:
        import grpc

        aio: Any = grpc.aio  # its types are wrong about calls without a request iterator
        if self._certificates is None:
            channel = aio.insecure_channel(self._address, options=limits.OPTIONS)
        else:
            certs = self._certificates
            credentials = grpc.ssl_channel_credentials(certs.authority, certs.key, certs.certificate)
            options = [*limits.OPTIONS, ("grpc.ssl_target_name_override", NAME)]
            channel = aio.secure_channel(self._address, credentials, options=options)
        async with channel:
            connect = channel.stream_stream(METHOD, request_serializer=to_bytes, response_deserializer=Frame.FromString)
            call = connect()
            hello = {
                "version": VERSION,
                "edge": self._edge,
                "token": self._token,
                "session": self._session,
                "generation": self._generation,
            }
            async with asyncio.timeout(limits.GREETING_S):
                await call.write(Frame(hello=hello))
                answer = await call.read()
            if answer is aio.EOF:
                raise _refusal(await call.code(), await call.details())
            self._window = answer.welcome.window
            self._sent = answer.welcome.received
            self._took(answer.welcome.received)
            if not self._first.done():
                self.next_seq, self.settled = answer.welcome.next_seq, answer.welcome.settled
            elif self._interrupt is not None:
                self._signals.appendleft(self._interrupt)
            if not self._first.done():
                self._first.set_result(None)
            self._news.set()
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(self._write(call))
                await self._read(call, aio.EOF)
                writing.cancel()

    async def _write(self, call: Any) -> None:
        ended = False
        while True:
            await self._news.wait()
            self._news.clear()
            while self._signals:
                await call.write(Frame(signal=self._signals[0]))
                self._signals.popleft()
            for number, frame in list(self._kept):
                if number >= self._sent:
                    if self._signals:
                        self._news.set()
                        break
                    await call.write(frame)
                    self._sent = number + 1
            else:
                if self._ending and not ended and self._sent == self._number:
                    await call.write(Frame(end={}))
                    ended = True

    async def _read(self, call: Any, eof: Any) -> None:
        while (frame := await call.read()) is not eof:
            kind = frame.WhichOneof("kind")
            if kind == "taken":
                self._took(frame.taken.count)
                self.on_room()
            elif kind == "acknowledged":
                further, self._acknowledged = frame.acknowledged.count - self._acknowledged, frame.acknowledged.count
                self.on_acknowledged(further)
            elif kind == "signal":
                self.on_signal(decode_signal(frame.signal))
            elif kind == "end":
                self._done = True
                self.on_ended()
                return

    def _took(self, count: int) -> None:
        self._taken = max(self._taken, min(count, self._number))
        while self._kept and self._kept[0][0] < self._taken:
            self._kept.popleft()


def _refusal(code: Any, details: str | None) -> Exception:
    if code.name in _REFUSALS:
        return TransportError(f"refused: {details}")
    return ConnectionError(details or code.name)


def _is_refusal(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return _is_refusal(error.exceptions[0])
    code = getattr(error, "code", None)
    return callable(code) and getattr(code(), "name", "") in _REFUSALS


def _reason(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return _reason(error.exceptions[0])
    details = getattr(error, "details", None)
    text = details() if callable(details) else str(error)
    return text or type(error).__name__
