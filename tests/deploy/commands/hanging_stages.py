"""Stages that hang for half a minute; the file named in HANGS says when they do, and in which process."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context


def say_so() -> None:
    Path(os.environ["HANGS"]).write_text(f"{os.getpid()}\n", encoding="utf-8")


def hang(spin: bool = False) -> None:
    say_so()
    until_s = time.monotonic() + 30
    while time.monotonic() < until_s:
        if not spin:
            time.sleep(30)


class Few:
    """Three packets."""

    outputs = {"out": Token}

    async def run(self, ctx: Context) -> None:
        for _ in range(3):
            await ctx.send(Token(text="x"), time=ctx.now_ns())


class Ticks(Few):
    """A packet every 20 ms."""

    async def run(self, ctx: Context) -> None:
        while True:
            await super().run(ctx)
            await asyncio.sleep(0.02)


class Deaf(Few):
    """Does not heed that it was told to end."""

    async def run(self, ctx: Context) -> None:
        say_so()
        until_s = time.monotonic() + 30
        while time.monotonic() < until_s:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                continue


class Takes:
    """Takes what comes."""

    inputs = {"in": Token}

    def process(self, packet: Packet, ctx: Context) -> None:
        pass


class HangsOnTheLoop(Takes):
    """In `process`, where it holds up everything."""

    def process(self, packet: Packet, ctx: Context) -> None:
        hang()


class Spins(Takes):
    """Computes there."""

    def process(self, packet: Packet, ctx: Context) -> None:
        hang(spin=True)


class HangsInAThread(HangsOnTheLoop):
    """On a thread of its own."""

    blocking = True


class HangsInOpening(Takes):
    """Before anything runs."""

    def open(self, ctx: Context) -> None:
        hang()


class HangsInClosing(Takes):
    """When all is over."""

    def close(self) -> None:
        hang()
