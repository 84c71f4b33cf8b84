"""Stages of `bench aging`: questions as fast as they are answered, and sound beside them that must not get older."""

from __future__ import annotations

import asyncio

import numpy as np

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, Token, Transcript
from thalweg.pipeline.signal import Direction, Interrupt
from thalweg.pipeline.stage import Context

CHUNK_S = 0.02
_SOUND = AudioChunk(samples=np.zeros(320, np.float32), rate=16_000)
_QUESTION = "what is the capital of the country next door"
_ANSWER = "The capital of that country is a city with a long name that takes a while to say."


class Ask:
    """Asks `turns` questions, or as many as it is told to with `ask` if that is 0, each in an epoch of its own."""

    outputs = {"question": Transcript}

    def __init__(self, turns: int = 0) -> None:
        self._turns = turns
        self._asked = 0
        self._orders = asyncio.Queue[int]()

    def ask(self, count: int) -> None:
        """So many more."""
        self._orders.put_nowait(count)

    async def run(self, ctx: Context) -> None:
        """Until the last one, or until it is stopped."""
        if self._turns:
            await self._ask(ctx, self._turns)
        while not self._turns:
            await self._ask(ctx, await self._orders.get())

    async def _ask(self, ctx: Context, count: int) -> None:
        for _ in range(count):
            self._asked += 1
            question = Transcript(text=_QUESTION, final=True, stable_chars=len(_QUESTION))
            await ctx.send(question, time=ctx.now_ns(), epoch=self._asked)


class Answer:
    """Answers each question in as many tokens as `words`, and with `chunks` of 20 ms of sound."""

    inputs = {"question": Transcript}
    outputs = {"answer": Token, "sound": AudioChunk}

    def __init__(self, words: int = 1, chunks: int = 1) -> None:
        self._words = words
        self._chunks = chunks
        self._answered = 0

    def process(self, packet: Packet, ctx: Context) -> None:
        """Answer one."""
        for i in range(self._words):
            part = _ANSWER[len(_ANSWER) * i // self._words : len(_ANSWER) * (i + 1) // self._words]
            ctx.emit(Token(text=part, last=i + 1 == self._words), port="answer")
        for _ in range(self._chunks):
            ctx.emit(_SOUND, port="sound")
        self._answered += 1

    def snapshot(self) -> dict[str, int]:
        """How many there were."""
        return {"answered": self._answered}

    def restore(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self._answered = state["answered"]


class Microphone:
    """20 ms of sound every 20 ms, of no turn."""

    outputs = {"sound": AudioChunk}

    async def run(self, ctx: Context) -> None:
        """Until it is stopped."""
        start_ns, sent = ctx.now_ns(), 0
        while True:
            await ctx.sleep_until(start_ns + round(sent * CHUNK_S * 1e9))
            await ctx.send(_SOUND, time=ctx.now_ns())
            sent += 1


class PassSound:
    """Passes sound on."""

    inputs = {"sound": AudioChunk}
    outputs = {"sound": AudioChunk}

    def process(self, packet: Packet, ctx: Context) -> None:
        """Pass one on."""
        ctx.emit(packet.payload)


class Speaker:
    """Notes how old sound is when it comes."""

    inputs = {"sound": AudioChunk}

    def __init__(self) -> None:
        self.ages_ns: list[int] = []

    def process(self, packet: Packet, ctx: Context) -> None:
        """Note it."""
        self.ages_ns.append(ctx.now_ns() - packet.time)


class Hear:
    """Takes answers, and knows which was complete last."""

    inputs = {"answer": Token}

    def __init__(self) -> None:
        self.complete = 0
        self._ctx: Context | None = None

    def open(self, ctx: Context) -> None:
        """Remember the context for later signals."""
        self._ctx = ctx

    def process(self, packet: Packet, ctx: Context) -> None:
        """Take a word."""
        assert isinstance(packet.payload, Token)
        if packet.payload.last:
            self.complete = max(self.complete, packet.epoch)

    def interrupt(self, epoch: int) -> None:
        """Raise an epoch."""
        assert self._ctx is not None
        self._ctx.signal(Interrupt(origin=self._ctx.name, epoch=epoch), Direction.BOTH)


class HearSound:
    """Takes the sound of answers."""

    inputs = {"sound": AudioChunk}

    def process(self, packet: Packet, ctx: Context) -> None:
        """Take a piece."""
