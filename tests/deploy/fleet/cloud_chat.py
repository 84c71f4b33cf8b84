"""A conversation in writing at a node: questions that a test asks, and what is said to them, token by token."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from thalweg.deploy.bench.fleet.cloud import Cable, Cloud
from thalweg.deploy.bench.fleet.moving import QUICK
from thalweg.deploy.bench.language.modelserver import ModelServer
from thalweg.deploy.cluster.host import make_worker
from thalweg.deploy.fleet.placing import follow, lease
from thalweg.deploy.fleet.placing.lenders import LENDERS
from thalweg.deploy.fleet.placing.placed import PlacedStage
from thalweg.deploy.runtime.tasks import beside
from thalweg.pipeline.file.spec import load_spec
from thalweg.pipeline.fleet.agent_socket import NODE
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token, Transcript
from thalweg.pipeline.signal import Interrupt
from thalweg.pipeline.stage import Context
from thalweg.transports.codec import decode
from thalweg.transports.fleet.durable import replace_file

PATIENCE_S = 120.0
ANSWER = (
    "The capital of France is Paris, which lies on the river Seine, in the north of the country, "
    "and has been the seat of its kings, of its parliaments and of its presidents for most of a thousand years."
)
TOKEN_S = 0.04
RULE = replace(QUICK, beat_ns=400_000_000)
"""Beats of a machine that has other work are not missed so soon."""
FILE = """
name: conversation
stages:
  questions: {{use: "tests.deploy.fleet.cloud_chat:Questions"}}
  chat: {{use: language.chat, model: m, options: {{continues: prefix}}, max_tokens: 500, url: "{edge}"}}
  said: {{use: "tests.deploy.fleet.cloud_chat:Said"}}
connections:
  - questions -> chat
  - chat -> said
placement:
  chat:
    edge: {{quality: 0.5}}
    cloud: {{set: {{url: "{cloud}"}}}}
"""


class Questions:
    """Asks what is put into `asked`, each in a turn of its own; None ends it. A question interrupts.

    It is recognised word by word before it is final.
    """

    outputs = {"transcript": Transcript}
    asked: ClassVar[asyncio.Queue[str | None]]

    async def run(self, ctx: Context) -> None:
        while (question := await Questions.asked.get()) is not None:
            epoch = ctx.new_epoch()
            ctx.signal(Interrupt(origin=ctx.name, epoch=epoch))
            words = question.split()
            for heard in range(1, len(words)):
                partial = Transcript(text=" ".join(words[:heard]), final=False)
                await ctx.send(partial, time=ctx.now_ns(), epoch=epoch)
            await ctx.send(Transcript(text=question, final=True), time=ctx.now_ns(), epoch=epoch)


class Said:
    """Keeps what comes: `tokens`, of each the turn, the text, whether it is the last, and when, s."""

    inputs = {"token": Token}
    tokens: ClassVar[list[tuple[int, str, bool, float]]]

    def process(self, packet: Packet[Token], ctx: Context) -> None:
        Said.tokens.append((packet.epoch, packet.payload.text, packet.payload.last, time.monotonic()))


def said(turn: int) -> str:
    """So far."""
    return "".join(text for epoch, text, _, _ in Said.tokens if epoch == turn)


def is_over(turn: int) -> bool:
    """Whether the last token of its answer has come."""
    return any(last for epoch, _, last, _ in Said.tokens if epoch == turn)


async def until(condition: Callable[[], object]) -> None:
    """Raises TimeoutError."""
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until_s:
            raise TimeoutError(f"so far it said {Said.tokens}")
        await asyncio.sleep(0.005)


class Conversation:
    """While the block of `conversing` runs. `crossed`: kinds of payloads that went to the lender, and came back;
    `sent`: all that went there.
    """

    def __init__(self, stage: PlacedStage, lender: Cloud, cable: Cable, edge: ModelServer, cloud: ModelServer) -> None:
        self.stage, self.lender, self.cable, self.edge, self.cloud = stage, lender, cable, edge, cloud
        self.crossed: tuple[set[str], set[str]] = set(), set()
        self.sent = bytearray()

    @property
    def place(self) -> str:
        """Where the chat is."""
        return "edge" if self.stage.away is None else self.stage.away.place

    def ask(self, question: str) -> None:
        """In a new turn."""
        Questions.asked.put_nowait(question)

    def said(self, turn: int) -> str:
        """So far."""
        return said(turn)

    def is_over(self, turn: int) -> bool:
        """Whether the last token of its answer has come."""
        return is_over(turn)

    def span_s(self, turn: int) -> float:
        """From its first token to its last."""
        times = [at for epoch, _, _, at in Said.tokens if epoch == turn]
        return times[-1] - times[0]

    async def until(self, condition: Callable[[], object]) -> None:
        """Raises TimeoutError."""
        await until(condition)

    def note(self, parts: tuple[Any, ...], *, back: bool) -> None:
        """Something crosses."""
        if parts[0] in ("packet", "probe"):
            self.crossed[0].add(type(decode(parts[-1]).payload).__name__)
        elif back and parts[0] in ("part", "answer"):
            self.crossed[1].update(type(decode(record).payload).__name__ for record in parts[3])


@asynccontextmanager
async def conversing(folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Conversation]:
    """A chat that has gone to a lender in the cloud, over a cable, with a model server behind it here and there."""
    lender = Cloud(folder)
    Questions.asked, Said.tokens = asyncio.Queue(), []
    patch.setattr(follow, "RULE", RULE)
    patch.setenv(NODE, str(lender.node / "intake.sock"))
    patch.setattr(sys, "path", [*sys.path])
    try:
        async with (
            ModelServer(ANSWER, token_s=TOKEN_S) as edge,
            ModelServer(ANSWER, token_s=TOKEN_S) as cloud,
            Cable(lender.port).laid() as cable,
        ):
            told = [{"place": "cloud", "name": "fog-1", "host": "127.0.0.1", "port": cable.port}]
            replace_file(lender.node / LENDERS, json.dumps(told).encode())
            lender.start()
            worker = make_worker("local", load_spec(FILE.format(edge=edge.url, cloud=cloud.url)))
            stage = worker.actors["chat"].stage
            assert isinstance(stage, PlacedStage)
            talk = Conversation(stage, lender, cable, edge, cloud)
            _listen(talk, patch)
            async with beside(worker.run()) as run:
                await talk.until(lambda: talk.place == "cloud")
                yield talk
                Questions.asked.put_nowait(None)
                async with asyncio.timeout(PATIENCE_S):
                    await run
    finally:
        lender.end()


def _listen(talk: Conversation, patch: pytest.MonkeyPatch) -> None:
    """At the node's end of the lease."""
    frame, next_frame = lease.frame, lease.next_frame

    def sent(*parts: Any) -> bytes:
        talk.note(parts, back=False)
        talk.sent += frame(*parts)
        return frame(*parts)

    async def came(reader: asyncio.StreamReader) -> tuple[Any, ...]:
        parts = await next_frame(reader)
        talk.note(parts, back=True)
        return parts

    patch.setattr(lease, "frame", sent)
    patch.setattr(lease, "next_frame", came)
