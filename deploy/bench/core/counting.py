"""Stages of the benchmarks of failure and endurance: what is lost, doubled or stale shows at their end."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token, VideoFrame
from thalweg.pipeline.signal import Direction, Interrupt, Signal
from thalweg.pipeline.stage import Context


class Count:
    """Gives out 0, 1, 2, … until it is stopped, one every `gap_ms`; as fast as they are taken where that is 0."""

    outputs = {"text": Token}

    def __init__(self, gap_ms: float = 5.0) -> None:
        self._gap_ns = round(gap_ms * 1e6)
        self.sent = 0

    async def run(self, ctx: Context) -> None:
        """Count."""
        number = 0
        while True:
            await ctx.send(Token(text=str(number)), time=ctx.now_ns())
            number = self.sent = number + 1
            if self._gap_ns:
                await ctx.sleep_until(ctx.now_ns() + self._gap_ns)


class Tally:
    """Adds to each text how many there were before: as many as the number says, unless some were lost or doubled."""

    inputs = {"text": Token}
    outputs = {"text": Token}

    def __init__(self) -> None:
        self._seen = 0

    def process(self, packet: Packet, ctx: Context) -> None:
        """Pass one on."""
        assert isinstance(packet.payload, Token)
        ctx.emit(Token(text=f"{packet.payload.text} {self._seen}"))
        self._seen += 1

    def snapshot(self) -> dict[str, Any]:
        """The count."""
        return {"seen": self._seen}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._seen = state["seen"]


class Dawdle(Tally):
    """As Tally, and takes its time: `usual_ms` for each, `pause_ms` for every hundredth."""

    blocking = False

    def __init__(self, usual_ms: float = 20.0, pause_ms: float = 2_500.0) -> None:
        super().__init__()
        self._usual_s = usual_ms / 1e3
        self._pause_s = pause_ms / 1e3
        self._busy = False

    async def process(self, packet: Packet, ctx: Context) -> None:  # type: ignore[override]  # a slow one waits
        """Pass one on, later."""
        self._busy = True
        await asyncio.sleep(self._usual_s if self._seen % 100 else self._pause_s)
        super().process(packet, ctx)
        self._busy = False

    def snapshot(self) -> dict[str, Any] | None:  # type: ignore[override]  # not in the middle of one
        """The count."""
        return None if self._busy else super().snapshot()


class Check:
    """Counts numbers that did not come, came again or were counted wrongly, and notes when each came, and how old."""

    inputs = {"text": Token}

    def __init__(self) -> None:
        self.arrived_ns: list[int] = []
        self.ages_ns: list[int] = []
        self.lost = 0
        self.doubled = 0
        self.miscounted = 0
        self._next = 0

    @property
    def last(self) -> int:
        """The highest number that came."""
        return self._next - 1

    def process(self, packet: Packet, ctx: Context) -> None:
        """Look at one."""
        assert isinstance(packet.payload, Token)
        number, *tallies = map(int, packet.payload.text.split())
        self.arrived_ns.append(ctx.now_ns())
        self.ages_ns.append(self.arrived_ns[-1] - packet.time)
        self.lost += max(0, number - self._next)
        self.doubled += number < self._next
        self.miscounted += any(tally != number for tally in tallies)
        self._next = max(self._next, number + 1)


class Toil:
    """Passes numbers on after as much CPU time as they take: every tenth `tenth_ms`, the others `usual_ms`."""

    inputs = {"text": Token}
    outputs = {"text": Token}
    blocking = True
    replicable = "stateless"

    def __init__(self, usual_ms: float = 20.0, tenth_ms: float = 20.0) -> None:
        self._usual_s = usual_ms / 1e3
        self._tenth_s = tenth_ms / 1e3

    def process(self, packet: Packet, ctx: Context) -> None:
        """Toil, and pass one on."""
        assert isinstance(packet.payload, Token)
        until_s = time.thread_time() + (self._usual_s if int(packet.payload.text) % 10 else self._tenth_s)
        while time.thread_time() < until_s:
            pass
        ctx.emit(packet.payload)


class Talk:
    """Talks without end, always in the newest epoch that it has heard of."""

    outputs = {"text": Token}

    def __init__(self) -> None:
        self._epoch = 1

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """Go over to the new epoch."""
        if isinstance(signal, Interrupt):
            self._epoch = max(self._epoch, signal.epoch)

    async def run(self, ctx: Context) -> None:
        """Send tokens as fast as the consumer takes them."""
        while True:
            await ctx.send(Token(text="blah"), time=ctx.now_ns(), epoch=self._epoch)


class Relay:
    """Passes on, a millisecond later, and so has packets waiting before it."""

    inputs = {"text": Token}
    outputs = {"text": Token}

    async def process(self, packet: Packet, ctx: Context) -> None:
        """Pass one on."""
        await asyncio.sleep(0.001)
        ctx.emit(packet.payload)


class Interrupter:
    """Listens, and interrupts when it is told to."""

    inputs = {"text": Token}

    def __init__(self) -> None:
        self.epoch = 1
        self.stale = 0
        self.heard = 0
        self._ctx: Context | None = None

    def open(self, ctx: Context) -> None:
        """Remember the context for later signals."""
        self._ctx = ctx

    def process(self, packet: Packet, ctx: Context) -> None:
        """Count what should not have come."""
        self.heard += 1
        self.stale += packet.epoch < self.epoch

    def interrupt(self) -> None:
        """Raise a new epoch."""
        assert self._ctx is not None
        self.epoch += 1
        self._ctx.signal(Interrupt(origin=self._ctx.name, epoch=self.epoch), Direction.UP)


class Frames:
    """Gives out pictures of changing size as fast as they are taken."""

    outputs = {"video": VideoFrame}

    async def run(self, ctx: Context) -> None:
        """Until it is stopped."""
        pictures = [np.zeros((height, 640, 3), np.uint8) for height in (120, 480, 240)]
        number = 0
        while True:
            await ctx.send(VideoFrame(pixels=pictures[number % 3]), time=ctx.now_ns())
            number += 1


class Pass:
    """Passes pictures on."""

    inputs = {"video": VideoFrame}
    outputs = {"video": VideoFrame}

    def process(self, packet: Packet, ctx: Context) -> None:
        """Pass one on."""
        ctx.emit(packet.payload)


class See:
    """Counts pictures."""

    inputs = {"video": VideoFrame}

    def __init__(self) -> None:
        self.seen = 0

    def process(self, packet: Packet, ctx: Context) -> None:
        """Count one."""
        self.seen += 1
