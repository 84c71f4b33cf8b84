"""Stages that keep count, and some that bring their worker down."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.joins.join import Nearest, PacketSet
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, Token
from thalweg.pipeline.stage import Context, Port


class Count:
    """A source of numbers, one every `gap_ms`; each a turn of its own where `turns`."""

    outputs = {"text": Token}

    def __init__(self, n: int = 100, gap_ms: float = 5.0, turns: bool = False) -> None:
        self.n = n
        self.gap_ms = gap_ms
        self.turns = turns

    async def run(self, ctx: Context) -> None:
        for i in range(self.n):
            await ctx.send(Token(text=str(i)), time=ctx.now_ns(), epoch=i + 1 if self.turns else 0)
            await ctx.sleep_until(ctx.now_ns() + int(self.gap_ms * 1e6))


class Sum:
    """Adds up the numbers, and says for each number what it comes to: wrong as soon as one is lost or doubled."""

    inputs = {"text": Token}
    outputs = {"text": Token}

    def __init__(self, poison: int = -1, work_ms: float = 0.0) -> None:
        self.poison = poison
        self.work_ms = work_ms
        self.total = 0

    def process(self, packet: Packet, ctx: Context) -> None:
        assert isinstance(packet.payload, Token)
        if int(packet.payload.text) == self.poison:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.work_ms / 1000)
        self.total += int(packet.payload.text)
        ctx.emit(Token(text=f"{packet.payload.text}:{self.total}"))

    def finish(self, ctx: Context) -> None:
        ctx.emit(Token(text=f"end:{self.total}", last=True))

    def snapshot(self) -> dict[str, Any]:
        return {"total": self.total}

    def restore(self, state: dict[str, Any]) -> None:
        self.total = state["total"]


class DiesOnce(Sum):
    """Kills its process at a number, unless the file `mark` says that it did."""

    def __init__(self, at: int, mark: Path, poison: int = -1, work_ms: float = 0.0) -> None:
        super().__init__(poison, work_ms)
        self.at = at
        self.mark = mark

    def process(self, packet: Packet, ctx: Context) -> None:
        assert isinstance(packet.payload, Token)
        if int(packet.payload.text) == self.at and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().process(packet, ctx)


class Exits(Sum):
    """Takes its process with it before it has begun."""

    def open(self, ctx: Context) -> None:
        os._exit(3)


class Refuses(Sum):
    """Cannot be opened."""

    def open(self, ctx: Context) -> None:
        raise ThalwegError("there is nothing to work with")


class Twice:
    """Says everything twice; no state."""

    inputs = {"text": Token}
    outputs = {"text": Token}

    async def process(self, packet: Packet, ctx: Context) -> None:
        for _ in range(2):
            ctx.emit(packet.payload)


class Keep:
    """A sink that keeps what it is given."""

    inputs = {"text": Port(Token, many=True)}

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.at_ns: list[int] = []
        self._waiting: list[tuple[int, asyncio.Event]] = []

    async def has(self, n: int) -> None:
        """Wait until `n` packets have come."""
        event = asyncio.Event()
        self._waiting.append((n, event))
        await event.wait()

    def process(self, packet: Packet, ctx: Context) -> None:
        assert isinstance(packet.payload, Token)
        self.texts.append(packet.payload.text)
        self.at_ns.append(ctx.now_ns())
        for n, event in self._waiting:
            if len(self.texts) >= n:
                event.set()


class WriteDown:
    """A sink that adds a line to a file for each text, at once."""

    inputs = {"text": Token}

    def __init__(self, path: Path) -> None:
        self.path = path

    def process(self, packet: Packet, ctx: Context) -> None:
        assert isinstance(packet.payload, Token)
        with self.path.open("a") as file:
            file.write(packet.payload.text + "\n")


class Hum:
    """A source of audio: one sample, its number, every `gap_ms`."""

    outputs = {"audio": AudioChunk}

    def __init__(self, n: int = 100, gap_ms: float = 5.0) -> None:
        self.n = n
        self.gap_ms = gap_ms

    async def run(self, ctx: Context) -> None:
        import numpy as np

        for i in range(self.n):
            samples = np.full(1, i, np.float32)
            await ctx.send(AudioChunk(samples=samples, rate=8000), time=ctx.now_ns())
            await ctx.sleep_until(ctx.now_ns() + int(self.gap_ms * 1e6))


class Note:
    """Writes down the number of each sample."""

    inputs = {"audio": AudioChunk}
    outputs = {"text": Token}

    def process(self, packet: Packet, ctx: Context) -> None:
        assert isinstance(packet.payload, AudioChunk)
        ctx.emit(Token(text=str(int(packet.payload.samples[0]))))


class Stamp:
    """A source of numbers at capture times 10 ms apart, as fast as they are taken; every third is left out of one."""

    outputs = {"text": Token}

    def __init__(self, n: int = 100) -> None:
        self.n = n

    async def run(self, ctx: Context) -> None:
        for i in range(self.n):
            if i % 3 or ctx.name == "left":
                await ctx.send(Token(text=str(i)), time=i * 10_000_000)


class Dawdle:
    """Passes on after a random while, up to 4 ms."""

    inputs = {"text": Token}
    outputs = {"text": Token}

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)

    async def process(self, packet: Packet, ctx: Context) -> None:
        await asyncio.sleep(self.random.random() * 0.004)
        ctx.emit(packet.payload)


class Pair:
    """The nearest of `right` for each of `left`."""

    inputs = {"left": Token, "right": Token}
    outputs = {"text": Token}
    join = Nearest(reference="left", tolerance_ns=5_000_000)

    def process_joined(self, joined: PacketSet, ctx: Context) -> None:
        texts = [packet.payload.text for port in ("left", "right") for packet in joined.packets[port]]
        ctx.emit(Token(text="+".join(texts)))
