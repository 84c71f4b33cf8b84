"""Stages for workers that many runs share."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.signal import Interrupt
from thalweg.pipeline.stage import Context
from thalweg.stages.speech.fastconformer import FastConformer


class Gate:
    """Passes on what it is told; `stop` interrupts what was before it."""

    inputs = {"text": Token}
    outputs = {"text": Token}

    def process(self, packet: Packet, ctx: Context) -> None:
        assert isinstance(packet.payload, Token)
        if packet.payload.text == "stop":
            ctx.signal(Interrupt(origin=ctx.name, epoch=packet.epoch))
        else:
            ctx.emit(packet.payload)


class Notes:
    """Says all that it was told, behind the number of its process; at `dwell` it stays until it is interrupted."""

    inputs = {"text": Token}
    outputs = {"text": Token}

    def __init__(self) -> None:
        self.told: list[str] = []

    async def process(self, packet: Packet, ctx: Context) -> None:
        assert isinstance(packet.payload, Token)
        if packet.payload.text == "dwell":
            ctx.emit(Token(text="dwelling"))
            await asyncio.Event().wait()
        self.told.append(packet.payload.text)
        ctx.emit(Token(text=" ".join([str(os.getpid()), *self.told])))

    def snapshot(self) -> dict[str, Any]:
        return {"told": self.told}

    def restore(self, state: dict[str, Any]) -> None:
        self.told = list(state["told"])


class Slow:
    """Takes the seconds that it is told, on a thread, and says them."""

    inputs = {"text": Token}
    outputs = {"text": Token}
    blocking = True

    def process(self, packet: Packet, ctx: Context) -> None:
        assert isinstance(packet.payload, Token)
        time.sleep(float(packet.payload.text))
        ctx.emit(packet.payload)


class Stuck:
    """Says into a file which process it is in, and never opens."""

    inputs = {"text": Token}
    outputs = {"text": Token}

    def __init__(self, told: str) -> None:
        self.told = told

    def open(self, ctx: Context) -> None:
        Path(self.told).write_text(str(os.getpid()), encoding="utf-8")
        threading.Event().wait()

    def process(self, packet: Packet, ctx: Context) -> None:
        """It is never called."""


class Alone(Notes):
    """There may be one of it only."""

    single = True


class Ears(FastConformer):
    """A recogniser that counts how many streams go through its engine at most at a time."""

    def open(self, ctx: Context) -> None:
        super().open(ctx)
        engine: Any = self._engine
        step = engine._step
        if step.__name__ == "counted":
            return
        engine.together = 0

        def counted(batch: Sequence[Any], *args: Any) -> None:
            engine.together = max(engine.together, len(batch))
            step(batch, *args)

        engine._step = counted

    @property
    def counts(self) -> dict[str, int]:
        return {"together": getattr(self._engine, "together", 0)}
