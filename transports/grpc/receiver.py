"""The consumer's end of a gRPC edge, through all its connections."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.signal import Interrupt, Signal
from thalweg.transports.codec import decode, decode_signal, encode_signal
from thalweg.transports.grpc.wire import Frame, Record
from thalweg.transports.link import TransportError, ignore


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
