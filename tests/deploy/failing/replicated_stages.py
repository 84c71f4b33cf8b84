"""Stages that may be replicated, and one that may not."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.signal import Interrupt, Signal
from thalweg.pipeline.stage import Context


class Several:
    """Says each word none, one or several times, after a random while each; how often and how long the word decides."""

    inputs = {"text": Token}
    outputs = {"text": Token}
    blocking = True
    replicable = "stateless"

    def __init__(self, seed: int = 0, least: int = 0, most: int = 3, pause_ms: float = 2.0) -> None:
        self.seed = seed
        self.least = least
        self.most = most
        self.pause_ms = pause_ms

    def process(self, packet: Packet, ctx: Context) -> None:
        assert isinstance(packet.payload, Token)
        chance = random.Random(f"{self.seed}/{packet.payload.text}")
        for i in range(chance.randint(self.least, self.most)):
            time.sleep(chance.random() * self.pause_ms / 1000)
            ctx.emit(Token(text=f"{packet.payload.text}/{i}"))
        time.sleep(chance.random() * self.pause_ms / 1000)


class CountByDigit:
    """How often it has seen each last digit, said with every number; all the counts again at the end."""

    inputs = {"text": Token}
    outputs = {"text": Token}
    replicable = "keyed"

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    @staticmethod
    def key(packet: Packet) -> str:
        assert isinstance(packet.payload, Token)
        return packet.payload.text[-1]

    def process(self, packet: Packet, ctx: Context) -> None:
        assert isinstance(packet.payload, Token)
        digit = packet.payload.text[-1]
        self.seen[digit] = self.seen.get(digit, 0) + 1
        ctx.emit(Token(text=f"{packet.payload.text}:{self.seen[digit]}"))

    def finish(self, ctx: Context) -> None:
        for digit, count in self.seen.items():
            ctx.emit(Token(text=f"{digit} came {count} times"))

    def snapshot(self) -> dict[str, Any]:
        return dict(self.seen)

    def restore(self, state: dict[str, Any]) -> None:
        self.seen = state


class Plain:
    """Says nothing of whether it may be replicated."""

    inputs = {"text": Token}
    outputs = {"text": Token}

    def process(self, packet: Packet, ctx: Context) -> None:
        ctx.emit(packet.payload)


class TalkAndInterrupt:
    """Turns of eight words as fast as they are taken, each cut short by the next after a random while, but the last."""

    outputs = {"text": Token}

    async def run(self, ctx: Context) -> None:
        chance = random.Random(1)
        for epoch in range(1, 7):
            for _ in range(8 if epoch == 6 else chance.randint(1, 8)):
                await ctx.send(Token(text="word"), time=ctx.now_ns(), epoch=epoch)
            await asyncio.sleep(chance.random() * 0.03)
            if epoch < 6:
                ctx.signal(Interrupt(origin=ctx.name, epoch=epoch + 1))


class Slowly:
    """Passes on after 5 ms, as a stage that waits for somebody."""

    inputs = {"text": Token}
    outputs = {"text": Token}
    replicable = "stateless"

    async def process(self, packet: Packet, ctx: Context) -> None:
        await asyncio.sleep(0.005)
        ctx.emit(packet.payload)


class Heard:
    """Keeps the turns of words and interrupts in the order they came."""

    inputs = {"text": Token}

    def __init__(self) -> None:
        self.texts: list[str] = []

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        if isinstance(signal, Interrupt):
            self.texts.append(f"interrupt {signal.epoch}")

    def process(self, packet: Packet, ctx: Context) -> None:
        self.texts.append(f"word {packet.epoch}")
