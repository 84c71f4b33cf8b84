"""The producer's end of a gRPC edge: connects, and again when the connection breaks."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.signal import Interrupt, Signal
from thalweg.transports.codec import VERSION, CodecError, decode, decode_signal, encode, encode_signal, size_of
from thalweg.transports.grpc import limits
from thalweg.transports.grpc.tls import NAME, Certificates
from thalweg.transports.grpc.wire import METHOD, Frame, Record, from_bytes, record_frame, to_bytes
from thalweg.transports.link import TransportError, ignore

_REFUSALS = ("PERMISSION_DENIED", "UNAUTHENTICATED")
_WAIT_S = 0.05
_WAIT_AT_MOST_S = 1.0
_HELD_S = 0.5
CLOSE_S = 2.0


class GrpcSender:
    """The producer's end; see `link.Sender`. `connected` must be awaited once, `close` called in the end.

    It owns the one task that connects, writes and reads: that ends with `close`, by itself where the consumer hangs up
    or the link is given up, and `wait_closed` says when. What goes wrong in it is told by `on_lost`.

    `patience_s`: how long it tries to connect again before the link is lost; a connection that held for half a second,
    or by which anything was sent or taken, begins it anew.
    """

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
        self.on_bad: Callable[[str], None] = ignore
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
        self._overflowed = False
        self._sent = 0
        self._welcomed_s: float | None = None
        self._ending = False
        self._done = False
        self._news = asyncio.Event()
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._over)

    async def connected(self) -> None:
        """Wait for the consumer's welcome. Raises TransportError where it does not come."""
        await self._first

    @property
    def has_room(self) -> bool:
        """Whether the window allows another packet: what was received and not taken counts against it."""
        return self._number - self._taken < self._window

    def offer(self, packet: Packet) -> bool:
        """Keep a packet and send it, where the window allows. Raises ThalwegError on one that cannot be sent."""
        if not self.has_room:
            return False
        parts = encode(packet)
        size = size_of(parts)
        if size > limits.LARGEST_RECORD:
            raise TransportError(
                f"a packet of {size / 1e6:.0f} MB is too large for an edge between hosts, "
                f"at most {limits.LARGEST_RECORD / 1e6:.0f} MB"
            )
        self._kept.append((self._number, record_frame(self._number, parts, size)))
        self._number += 1
        self._news.set()
        return True

    def unreceived(self) -> list[Packet]:
        """See `link.Sender`."""
        frames = [from_bytes(frame) for _, frame in self._kept]
        return [decode(frame.data) for frame in frames if isinstance(frame, Record)]

    def signal(self, signal: Signal) -> None:
        """Send a signal down, before any packet that still waits."""
        self._signals.append(encode_signal(signal))
        if len(self._signals) > limits.SIGNALS:
            self._signals.popleft()
            if not self._overflowed:
                self._overflowed = True
                self.on_bad(f"more than {limits.SIGNALS} signals wait for a connection: the oldest are left out")
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

    @property
    def closed(self) -> bool:
        """Whether nothing of it is under way."""
        return self._task.done()

    async def wait_closed(self) -> None:
        """Wait until nothing of it is under way, for `CLOSE_S` at most; never raises what went wrong."""
        await asyncio.wait([self._task], timeout=CLOSE_S)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        wait_s = _WAIT_S
        since_s: float | None = None
        while True:
            before, self._welcomed_s = (self._taken, self._sent), None
            try:
                await self._connection()
                reason = "the consumer hung up"
            except Exception as error:  # grpc raises half a dozen unrelated kinds where a connection breaks
                cause = _cause(error)
                reason = _reason(cause)
                if isinstance(cause, TransportError):
                    return self._give_up(reason)
                if _is_refusal(cause):
                    return self._give_up(f"refused: {reason}")
            if self._done:
                return None
            now_s = loop.time()
            held = self._welcomed_s is not None and now_s - self._welcomed_s > _HELD_S
            if held or (self._taken, self._sent) != before:
                wait_s, since_s = _WAIT_S, None
            else:
                wait_s = min(_WAIT_AT_MOST_S, 2 * wait_s)
            since_s = now_s if since_s is None else since_s
            if now_s - since_s > (self._patience_s if self._first.done() else limits.GREETING_S):
                return self._give_up(reason)
            self.reconnects += 1
            await asyncio.sleep(wait_s)

    def _give_up(self, reason: str) -> None:
        if not self._first.done():
            self._first.set_exception(TransportError(f"cannot connect {self._edge} to {self._address}: {reason}"))
        else:
            self.on_lost(reason)

    def _over(self, task: asyncio.Task[None]) -> None:
        """The task has ended. No caller awaits it, so its error is reported here."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._give_up(_reason(error))

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
            connect = channel.stream_stream(METHOD, request_serializer=to_bytes, response_deserializer=from_bytes)
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
            self._welcomed(answer)
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(self._write(call))
                await self._read(call, aio.EOF)
                writing.cancel()

    def _welcomed(self, answer: Any) -> None:
        """Go on where the consumer is. What it has received it keeps, and only what it has not is sent again; but it
        has taken no more than it said, and so the window stays as full as it was.
        """
        if _kind(answer) != "welcome":
            raise TransportError("that was no welcome of Thalweg's")
        received = answer.welcome.received
        if not (self._kept[0][0] if self._kept else self._number) <= received <= self._number:
            raise TransportError(f"the consumer says that it has {received} packets of this edge's {self._number}")
        self._window = answer.welcome.window
        self._sent = received
        while self._kept and self._kept[0][0] < received:
            self._kept.popleft()
        if not self._first.done():
            self.next_seq, self.settled = answer.welcome.next_seq, answer.welcome.settled
            self._first.set_result(None)
        elif self._interrupt is not None:
            self._signals.appendleft(self._interrupt)
        self._overflowed = False
        self._welcomed_s = asyncio.get_running_loop().time()
        self._news.set()

    async def _write(self, call: Any) -> None:
        ended = False
        while True:
            await self._news.wait()
            self._news.clear()
            while self._signals:
                signal = self._signals[0]
                await call.write(Frame(signal=signal))
                if self._signals and self._signals[0] is signal:  # else too many have come meanwhile
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
            kind = _kind(frame)
            if kind == "taken":
                self._took(frame.taken.count)
                self.on_room()
            elif kind == "acknowledged":
                further = max(0, frame.acknowledged.count - self._acknowledged)
                self._acknowledged += further
                self.on_acknowledged(further)
            elif kind == "signal":
                self._hear(frame.signal)
            elif kind == "end":
                self._done = True
                self.on_ended()
                return
            else:
                raise TransportError(f"a frame of kind {kind} came up, expected what was taken, a signal or the end")

    def _hear(self, written: bytes) -> None:
        try:
            signal = decode_signal(written)
        except CodecError as error:
            self.on_bad(f"a signal cannot be read, and is left out: {error}")
        else:
            self.on_signal(signal)

    def _took(self, count: int) -> None:
        self._taken = max(self._taken, min(count, self._number))
        while self._kept and self._kept[0][0] < self._taken:
            self._kept.popleft()


def _kind(frame: Any) -> str | None:
    """What a frame of the consumer's is; grpc gives None for bytes that are no frame."""
    if frame is None or isinstance(frame, Record):
        raise TransportError("the consumer sent something that is no frame of Thalweg's")
    kind: str | None = frame.WhichOneof("kind")
    return kind


def _refusal(code: Any, details: str | None) -> Exception:
    if code.name in _REFUSALS:
        return TransportError(f"refused: {details}")
    return ConnectionError(details or code.name)


def _is_refusal(error: BaseException) -> bool:
    code = getattr(error, "code", None)
    return callable(code) and getattr(code(), "name", "") in _REFUSALS


def _cause(error: BaseException) -> BaseException:
    """What went wrong first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _reason(error: BaseException) -> str:
    error = _cause(error)
    details = getattr(error, "details", None)
    text = details() if callable(details) else str(error)
    return text or type(error).__name__
