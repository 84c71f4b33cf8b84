"""Stages for deployments that stay: a clock that ticks for ever, a stage between, a sink; and ones that misbehave."""

from __future__ import annotations

import asyncio
import sys
import time

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context


class Ticker:
    """A tick every `gap_ms`, `n` of them or for ever; every tenth begins a turn."""

    outputs = {"tick": Token}

    def __init__(
        self, gap_ms: float = 5, n: int = 0, fail_to_open: bool = False, open_s: float = 0, fails: str = ""
    ) -> None:
        self._gap_ns = round(gap_ms * 1e6)
        self._n = n
        self._fail_to_open = fail_to_open
        self._open_s = open_s
        self._fails = fails

    def open(self, ctx: Context) -> None:
        if self._fail_to_open:
            raise OSError("the clock has no battery")
        time.sleep(self._open_s)

    async def run(self, ctx: Context) -> None:
        if self._fails:
            raise ConnectionError(self._fails)
        i = 0
        while not self._n or i < self._n:
            await ctx.send(Token(text=str(i), last=i % 10 == 9), time=ctx.now_ns(), epoch=i // 10 + 1)
            i += 1
            await ctx.sleep_until(ctx.now_ns() + self._gap_ns)


class Relay:
    """Passes on; takes `work_ms` for it, says every `every`-th on standard output, fails on every `fail`-th."""

    inputs = {"tick": Token}
    outputs = {"tick": Token}
    blocking = True

    def __init__(self, work_ms: float = 0, every: int = 100, fail: int = 0) -> None:
        self._work_s = work_ms / 1e3
        self._every = every
        self._fail = fail
        self._seen = 0

    def process(self, packet: Packet, ctx: Context) -> None:
        self._seen += 1
        if self._work_s:
            time.sleep(self._work_s)
        if self._seen % self._every == 1:
            print(f"relayed {self._seen}", flush=True)
        if self._fail and self._seen % self._fail == 0:
            raise ValueError("this one I cannot relay")
        ctx.emit(packet.payload)


class Stuck:
    """Never gives a packet back, whoever asks."""

    inputs = {"tick": Token}
    outputs = {"tick": Token}

    async def process(self, packet: Packet, ctx: Context) -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                print("not even now", file=sys.stderr, flush=True)


class Drain:
    """Takes everything."""

    inputs = {"tick": Token}

    def process(self, packet: Packet, ctx: Context) -> None:
        pass
