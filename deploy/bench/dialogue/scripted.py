"""Stages of fixed cost in the place of models: conversations in writing, for capacity, loss and moving of many hosts.

The ear hears nothing, so that questions are written; the answer names all questions so far, which shows what a
conversation remembers; the voice is a tone of a known length for each word, after a known amount of work.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Annotated

import numpy as np
from pydantic import Field

from thalweg.models.language.backend import Abilities, Delta, Finish, Request, Text
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, Speech, SpokenText, Token, Transcript
from thalweg.pipeline.stage import Context

RATE = 48_000
_BLOCK = 2_000


class Ear:
    """In the place of voice detector and recogniser: takes the sound, and hears nothing in it."""

    inputs = {"audio": AudioChunk}
    outputs = {"speech": Speech, "transcript": Transcript}

    def process(self, packet: Packet, ctx: Context) -> None:
        """Nothing."""


class Lister:
    """A backend that answers with every question of the conversation, the newest last: `one and two`."""

    abilities = Abilities(continues="prefix")
    name = "the lister"

    async def open(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """Nothing to free."""

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Word by word."""
        asked = [message.text for message in request.messages if message.role == "user"]
        for word in " and ".join(asked).removeprefix(request.prefix).split():
            yield Text(f"{word} ")
        yield Finish()

    async def prefill(self, request: Request) -> None:
        """Nothing to read."""


class Tone:
    """In the place of a voice: `length` of a tone for each word, after `work` of the processor."""

    inputs = {"token": Token}
    outputs = {"audio": SpokenText}
    blocking = True

    def __init__(
        self,
        length: Annotated[Duration, Field(description="of the sound of one word")] = 100 * MS,
        work: Annotated[Duration, Field(description="processor time for one word")] = 0,
    ) -> None:
        self._samples = round(length * RATE / 1e9)
        self._work_ns = work
        self._text: dict[int, str] = {}

    def process(self, packet: Packet, ctx: Context) -> None:
        """Speak once the answer is whole."""
        token = packet.payload
        assert isinstance(token, Token)
        if not token.last:
            self._text[packet.epoch] = self._text.get(packet.epoch, "") + token.text
            return
        words = (self._text.pop(packet.epoch, "") + token.text).split() or [""]
        self._text = {epoch: text for epoch, text in self._text.items() if epoch > packet.epoch}
        for number, word in enumerate(words, 1):
            if ctx.stale:
                return
            self._spend()
            tone = 0.3 * np.sin(np.arange(self._samples if word else 0, dtype=np.float32) * 0.05).astype(np.float32)
            ctx.emit(SpokenText(samples=tone, rate=RATE, text=word, last=number == len(words)))

    def _spend(self) -> None:
        until_ns = time.thread_time_ns() + self._work_ns
        while time.thread_time_ns() < until_ns:
            np.sin(np.arange(_BLOCK)).sum()


PIPELINE = """
name: scripted
description: Names what was asked so far.
stages:
  microphone: {{use: live.microphone}}
  ear: {{use: "thalweg.deploy.bench.dialogue.scripted:Ear"}}
  turns: {{use: live.turns}}
  chat:
    use: language.chat
    backend: "thalweg.deploy.bench.dialogue.scripted:Lister"
    system: ""
    history: 1000
  voice: {{use: "thalweg.deploy.bench.dialogue.scripted:Tone", length: {length}, work: {work}}}
  speaker: {{use: live.speaker}}
  captions: {{use: live.captions}}
connections:
  - microphone -> ear
  - ear.transcript -> turns.transcript
  - microphone -> turns.audio
  - ear.speech -> turns.speech
  - turns -> chat
  - chat.token -> voice -> speaker
  - ear.transcript -> captions.transcript
  - chat.token -> captions.token
"""


def pipeline(length: str = "100ms", work: str = "0ms") -> str:
    """The file: durations as a pipeline file takes them."""
    return PIPELINE.format(length=length, work=work)
