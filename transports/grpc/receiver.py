"""The consumer's end of a gRPC edge, through all its connections."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.signal import Interrupt, Signal
from thalweg.transports.codec import CodecError, decode, decode_signal, encode_signal
from thalweg.transports.grpc import limits
from thalweg.transports.grpc.wire import Frame, Record
from thalweg.transports.link import TransportError, Unreadable, ignore


class GrpcReceiver:
    """The consumer's end; see `link.Receiver`. It outlives the connections that come and go.

    A connection that broke may not be known to be broken yet when its producer comes back by another one: the newest
    is the one that counts, what still comes by an older one is ignored.
    """

    def __init__(self, window: int) -> None:
        self.on_packet: Callable[[], None] = ignore
        self.on_signal: Callable[[Signal], None] = ignore
        self.on_end: Callable[[], None] = ignore
        self.on_bad: Callable[[str], None] = ignore
        self.on_lost: Callable[[str], None] = ignore
        self.window = window
        self.received = 0
        self.session = b""
        self.generation = 0
        self.connection = 0
        self.unreadable = Unreadable()
        self._acknowledged = 0
        self._interrupt: bytes | None = None
        self._records: deque[memoryview] = deque()
        self._taken = 0
        self._told = 0
        self._signals: deque[bytes] = deque()
        self._overflowed = False
        self._ending = False
        self._ended = False
        self._closed = False
        self._news = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether it was closed before everything was taken: no connection is of any use to it."""
        return self._closed and not self._ended

    def take(self) -> Packet | None:
        """The next packet, decoded. What cannot be decoded is told by `on_bad`, and the next one is given."""
        packet = None
        while packet is None and self._records:
            record = self._records.popleft()
            self._taken += 1
            try:
                packet = decode(record)
            except ThalwegError as error:
                self.unreadable.left_out(self._taken - 1 - self.unreadable.count)
                self.on_bad(f"a packet that came cannot be read, and is left out: {error}")
        if 2 * (self._taken - self._told) >= self.window:
            self._news.set()
        self._maybe_end()
        return packet

    def acknowledge(self, count: int) -> None:
        """Let the producer forget packets."""
        self._acknowledged += self.unreadable.acknowledged(count)
        self._news.set()

    def signal(self, signal: Signal) -> None:
        """Send a signal up."""
        self._signals.append(encode_signal(signal))
        if len(self._signals) > limits.SIGNALS:
            self._signals.popleft()
            if not self._overflowed:
                self._overflowed = True
                self.on_bad(f"more than {limits.SIGNALS} signals wait for a connection: the oldest are left out")
        if isinstance(signal, Interrupt):
            self._interrupt = self._signals[-1]
        self._news.set()

    def close(self) -> None:
        """Hang up."""
        self._closed = True
        self._news.set()

    def connected(self) -> int:
        """The producer has come by a new connection; its number. The one before, if there is one, is over."""
        self.connection += 1
        self._news.set()
        return self.connection

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
            self._hear(frame.signal)
        elif kind == "end":
            self._ending = True
            self._maybe_end()
        else:
            raise TransportError(f"a frame of kind {kind} came, expected a record, a signal or the end")

    async def tell(self, connection: int, write: Callable[[Any], Awaitable[None]]) -> None:
        """Write what is to be told by this connection, until it is over: everything was taken, the consumer has hung
        up, or the producer has come by another connection. An interrupt is said again: it may have been lost.
        """
        self._told = -1
        self._overflowed = False
        acknowledged = 0
        if self._interrupt is not None:
            self._signals.appendleft(self._interrupt)
        while connection == self.connection:
            if self._acknowledged != acknowledged:
                acknowledged = self._acknowledged
                await write(Frame(acknowledged={"count": acknowledged}))
            elif self._taken != self._told:
                self._told = self._taken
                await write(Frame(taken={"count": self._taken}))
            elif self._signals:
                signal = self._signals[0]
                await write(Frame(signal=signal))
                if self._signals and self._signals[0] is signal:  # else it is another connection's by now
                    self._signals.popleft()
            elif self._ended:
                await write(Frame(end={}))
                return
            elif self._closed:
                return
            else:
                await self._news.wait()
                if connection == self.connection:  # otherwise it is for the newer one to see
                    self._news.clear()

    def _hear(self, written: bytes) -> None:
        try:
            signal = decode_signal(written)
        except CodecError as error:
            self.on_bad(f"a signal that came cannot be read, and is left out: {error}")
        else:
            self.on_signal(signal)

    def _maybe_end(self) -> None:
        if self._ending and not self._records and not self._ended:
            self._ended = True
            self._news.set()
            self.on_end()
