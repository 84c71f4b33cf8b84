"""Stages for `budget.py`: video that follows its bit rate, and something small ten times a second."""

from __future__ import annotations

from thalweg.pipeline.payload import Token
from thalweg.pipeline.signal import Bitrate, Signal
from thalweg.pipeline.stage import Context

EVERY_NS = 100_000_000
START_BPS = 600_000


class Video:
    """A frame every 100 ms, as large as the bit rate says; 600 kbit/s until that is told."""

    outputs = {"token": Token}

    def __init__(self) -> None:
        self._bps = START_BPS

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        if isinstance(signal, Bitrate):
            self._bps = signal.bitrate_bps

    async def run(self, ctx: Context) -> None:
        while True:
            await ctx.send(Token(text="v" * (self._bps // 80)), time=ctx.now_ns())
            await ctx.sleep_until(ctx.now_ns() + EVERY_NS)


class Ticks:
    """200 bytes every 100 ms."""

    outputs = {"token": Token}

    async def run(self, ctx: Context) -> None:
        while True:
            await ctx.send(Token(text="t" * 100), time=ctx.now_ns())
            await ctx.sleep_until(ctx.now_ns() + EVERY_NS)
