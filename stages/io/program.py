"""The ends of a pipeline that are held by the program which runs it (`thalweg.Run`)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import AudioChunk, EncodedVideo, Payload, VideoFrame
from thalweg.pipeline.signal import Interrupt, Signal
from thalweg.pipeline.stage import Context

KEPT_MEDIA = 8


class EndError(ThalwegError):
    """Something was sent into a pipeline that has ended, or a stream is read twice."""


@dataclass(slots=True)
class _Sent:
    payload: Payload
    time: int | None
    epoch: int
    taken: asyncio.Future[None]


class ProgramInput:
    """Packets from the program that runs the pipeline (`run.send`).

    Packets are emitted in the order of the sends; each send returns once there is room for its packet. The stream ends
    with `end`, or with the pipeline; a send that is still waiting then raises EndError.
    """

    outputs = {"packet": Payload}

    def __init__(self) -> None:
        self._waiting: deque[_Sent | None] = deque()
        self._news = asyncio.Event()
        self._ended = False

    async def run(self, ctx: Context) -> None:
        """Send on what is given."""
        try:
            while True:
                while not self._waiting:
                    self._news.clear()
                    await self._news.wait()
                sent = self._waiting.popleft()
                if sent is None:
                    return
                try:
                    await ctx.send(
                        sent.payload, time=ctx.now_ns() if sent.time is None else sent.time, epoch=sent.epoch
                    )
                except ThalwegError as error:
                    if not sent.taken.done():
                        sent.taken.set_exception(error)
                    continue
                if not sent.taken.done():
                    sent.taken.set_result(None)
        finally:
            self._ended = True
            for left in self._waiting:
                if left is not None and not left.taken.done():
                    left.taken.set_exception(EndError("the pipeline has ended"))

    async def send(self, payload: Payload, time: int | None, epoch: int = AMBIENT) -> None:
        """Wait until there was room for it. Raises EndError. A send that is cancelled may still go out."""
        if self._ended:
            raise EndError("the pipeline has ended")
        sent = _Sent(payload, time, epoch, asyncio.get_running_loop().create_future())
        self._waiting.append(sent)
        self._news.set()
        await sent.taken

    def end(self) -> None:
        """Nothing more will be sent. Idempotent."""
        self._waiting.append(None)
        self._news.set()


class ProgramOutput:
    """Packets for the program that runs the pipeline (`run.packets`).

    Without a reader, the newest `keep` packets wait (of audio and video 8) and older ones are counted as `unread`. With
    a reader nothing is dropped: the pipeline waits for it. Packets that an interrupt overtakes are dropped, and counted
    as `stale`.
    """

    inputs = {"packet": Payload}

    def __init__(self, keep: Annotated[int, Field(ge=1, le=1_000_000)] = 256) -> None:
        self._keep = keep
        self._packets: deque[Packet] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._reading = False
        self._ended = False
        self.counts = {"unread": 0, "stale": 0}

    async def process(self, packet: Packet, ctx: Context) -> None:
        """Keep one for the reader."""
        media = isinstance(packet.payload, AudioChunk | VideoFrame | EncodedVideo)
        keep = min(self._keep, KEPT_MEDIA) if media else self._keep
        while len(self._packets) >= keep:
            if not self._reading:
                self._packets.popleft()
                self.counts["unread"] += 1
                continue
            self._room.clear()
            await self._room.wait()
        self._packets.append(packet)
        self._news.set()

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """What an interrupt overtakes is of no use any more."""
        if isinstance(signal, Interrupt):
            kept = [packet for packet in self._packets if packet.epoch == AMBIENT or packet.epoch >= signal.epoch]
            self.counts["stale"] += len(self._packets) - len(kept)
            self._packets = deque(kept)
            self._room.set()

    def finish(self, ctx: Context) -> None:
        """The stream has ended."""
        self.end()

    def end(self) -> None:
        """No packet will come any more. Idempotent."""
        self._ended = True
        self._news.set()

    async def packets(self) -> AsyncIterator[Packet]:
        """The packets in their order, to the end of the stream. Raises EndError where it has a reader already."""
        if self._reading:
            raise EndError("this stream is being read already; connect another `program.output` for a second reader")
        self._reading = True
        try:
            while True:
                while not self._packets:
                    if self._ended:
                        return
                    self._news.clear()
                    await self._news.wait()
                packet = self._packets.popleft()
                self._room.set()
                yield packet
        finally:
            self._reading = False
            self._room.set()
