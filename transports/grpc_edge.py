"""Edges between hosts: one gRPC stream per edge, as `edge.proto` describes it.

Theory of operation. The producer's worker connects and says who it is; the consumer's answers with its window and
with how many records it has. From then on:

    state       event               next        what the producer does
    CONNECTED   connection breaks   WAITING     keeps what was not taken, at most the window; tries again, slower
                                                and slower, for `patience_s`
    WAITING     welcome             CONNECTED   sends what the consumer has not received, then goes on
    WAITING     patience is over    LOST        tells its worker
    CONNECTED   end answered        DONE

The consumer drops records it has already, so that every record arrives once and in order, whatever broke in between.
A record counts against the window until its consumer's channel has taken it: a `block` edge holds up its producer
across hosts. Each edge has a connection of its own, so a full one holds up no other. Nothing is compressed: media is
already, and the rest is small.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.signal import Interrupt, Signal
from thalweg.transports.codec import VERSION, decode, decode_signal, encode, encode_signal, size_of
from thalweg.transports.link import TransportError, ignore
from thalweg.transports.tls import NAME, Certificates
from thalweg.transports.wire import METHOD, Frame, Record, from_bytes, record_frame, to_bytes

LARGEST_MESSAGE = 64 << 20
GREETING_S = 5.0
_REFUSALS = ("PERMISSION_DENIED", "UNAUTHENTICATED")
_OPTIONS = [
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 2_000),
    ("grpc.so_reuseport", 0),
    ("grpc.default_compression_algorithm", 0),
]


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
            if now - since > (self._patience_s if self._first.done() else GREETING_S):
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
            channel = aio.insecure_channel(self._address, options=_OPTIONS)
        else:
            certs = self._certificates
            credentials = grpc.ssl_channel_credentials(certs.authority, certs.key, certs.certificate)
            options = [*_OPTIONS, ("grpc.ssl_target_name_override", NAME)]
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
            async with asyncio.timeout(GREETING_S):
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


class GrpcReceiver:
    """The consumer's end; see `link.Receiver`. It outlives the connections that come and go."""

    def __init__(self, window: int) -> None:
        self.on_packet: Callable[[], None] = ignore
        self.on_signal: Callable[[Signal], None] = ignore
        self.on_end: Callable[[], None] = ignore
        self.on_lost: Callable[[str], None] = ignore
        self.window = window
        self.received = 0
        self.session = b""
        self.generation = 0
        self._acknowledged = 0
        self._interrupt: bytes | None = None
        self._records: deque[memoryview] = deque()
        self._taken = 0
        self._told = 0
        self._signals: deque[bytes] = deque()
        self._ending = False
        self._ended = False
        self._closed = False
        self._news = asyncio.Event()

    def take(self) -> Packet | None:
        """The next packet, decoded."""
        if not self._records:
            return None
        packet = decode(self._records.popleft())
        self._taken += 1
        if 2 * (self._taken - self._told) >= self.window:
            self._news.set()
        self._maybe_end()
        return packet

    def acknowledge(self, count: int) -> None:
        """Let the producer forget packets."""
        self._acknowledged += count
        self._news.set()

    def signal(self, signal: Signal) -> None:
        """Send a signal up."""
        self._signals.append(encode_signal(signal))
        if isinstance(signal, Interrupt):
            self._interrupt = self._signals[-1]
        self._news.set()

    def close(self) -> None:
        """Hang up."""
        self._closed = True
        self._news.set()

    def accept(self, frame: Any) -> None:
        """A frame from the producer. Raises TransportError on one that does not belong here."""
        if isinstance(frame, Record):
            if frame.number > self.received:
                raise TransportError(f"record {frame.number} came, expected {self.received}")
            if frame.number == self.received:
                if self.received - self._taken >= self.window:
                    raise TransportError("the producer sent more than the window allows")
                self.received += 1
                self._records.append(frame.data)
                self.on_packet()
            return
        kind = frame.WhichOneof("kind")
        if kind == "signal":
            self.on_signal(decode_signal(frame.signal))
        elif kind == "end":
            self._ending = True
            self._maybe_end()
        else:
            raise TransportError(f"a frame of kind {kind} came, expected a record, a signal or the end")

    async def outgoing(self) -> AsyncIterator[Any]:
        """What is to be sent on this connection; ends with it. An interrupt is said again: it may have been lost."""
        self._told = -1
        acknowledged = 0
        if self._interrupt is not None:
            self._signals.appendleft(self._interrupt)
        while not self._closed:
            if self._acknowledged != acknowledged:
                acknowledged = self._acknowledged
                yield Frame(acknowledged={"count": acknowledged})
            if self._taken != self._told:
                self._told = self._taken
                yield Frame(taken={"count": self._taken})
            while self._signals:
                yield Frame(signal=self._signals.popleft())
            if self._ended:
                yield Frame(end={})
                return
            await self._news.wait()
            self._news.clear()

    def _maybe_end(self) -> None:
        if self._ending and not self._records and not self._ended:
            self._ended = True
            self._news.set()
            self.on_end()


class GrpcListener:
    """Where producers on other hosts connect. Start it with `start`, which returns the port."""

    def __init__(
        self,
        token: str,
        accepted: Callable[[str, GrpcReceiver], None],
        certificates: Certificates | None,
        position: Callable[[str], tuple[int, int]] = lambda _: (0, 0),
    ) -> None:
        self._token = token
        self._position = position
        self._accepted = accepted
        self._certificates = certificates
        self._receivers: dict[str, GrpcReceiver] = {}
        self._windows: dict[str, int] = {}
        self._server: Any = None

    def expect(self, edge: str, window: int) -> None:
        """The producer of this edge may connect and have `window` packets under way."""
        self._windows[edge] = window

    async def start(self, address: str) -> int:
        """Listen at `host:port`, port 0 for any. Raises TransportError where that is taken or cannot be used."""
        import grpc

        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=1024)
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve, request_deserializer=from_bytes, response_serializer=Frame.SerializeToString
        )
        service, method = METHOD.strip("/").split("/")
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        try:
            if self._certificates is None:
                port = self._server.add_insecure_port(address)
            else:
                certs = self._certificates
                pairs = [(certs.key, certs.certificate)]
                credentials = grpc.ssl_server_credentials(pairs, certs.authority, require_client_auth=True)
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            raise TransportError(f"cannot listen at {address}: it is taken, or not an address of this host") from None
        await self._server.start()
        return int(port)

    async def stop(self) -> None:
        """Hang up on everybody."""
        for receiver in self._receivers.values():
            receiver.close()
        if self._server is not None:
            await self._server.stop(0.2)

    async def _serve(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        import grpc

        try:
            async with asyncio.timeout(GREETING_S):
                first = await anext(requests)
            receiver = self._greet(first)
        except (TransportError, TimeoutError, StopAsyncIteration) as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error) or "no greeting came")
            return
        next_seq, settled = self._position(first.hello.edge)
        yield Frame(
            welcome={
                "window": receiver.window,
                "received": receiver.received,
                "next_seq": next_seq,
                "settled": settled,
            }
        )
        reading = asyncio.get_running_loop().create_task(self._read(receiver, requests, context))
        try:
            async for frame in receiver.outgoing():
                yield frame
        finally:
            reading.cancel()

    async def _read(self, receiver: GrpcReceiver, requests: AsyncIterator[Any], context: Any) -> None:
        try:
            async for frame in requests:
                receiver.accept(frame)
        except ThalwegError as error:
            receiver.on_lost(str(error))
            receiver.close()

    def _greet(self, frame: Any) -> GrpcReceiver:
        if isinstance(frame, Record) or frame.WhichOneof("kind") != "hello":
            raise TransportError("that was no greeting of Thalweg's")
        hello = frame.hello
        if hello.version != VERSION:
            raise TransportError(f"wire version {hello.version} meets wire version {VERSION}: install the same Thalweg")
        if not hmac.compare_digest(hello.token.encode(), self._token.encode()):
            raise TransportError("the token is wrong")
        receiver = self._receivers.get(hello.edge)
        if receiver is not None and receiver.session == hello.session:
            return receiver
        if hello.edge not in self._windows:
            raise TransportError(f"no edge {hello.edge!r} is expected here")
        if receiver is not None and hello.generation <= receiver.generation:
            raise TransportError(f"edge {hello.edge!r} is connected already")
        receiver = self._receivers[hello.edge] = GrpcReceiver(self._windows[hello.edge])
        receiver.session = hello.session
        receiver.generation = hello.generation
        self._accepted(hello.edge, receiver)
        return receiver


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
