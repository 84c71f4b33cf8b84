"""A source that counts without end; and ways in which a release can be no good."""

from __future__ import annotations

import asyncio
import os
import time

from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context


class Beacon:
    """A number every `gap_ms`. `fault`: `crash` it ends its process, `silent` it says nothing, `hang` it never opens,
    `freeze` it holds up its process.
    """

    outputs = {"token": Token}

    def __init__(self, gap_ms: float = 20, fault: str = "") -> None:
        self._gap_ns = round(gap_ms * 1e6)
        self._fault = fault

    async def open(self, ctx: Context) -> None:
        if self._fault == "hang":
            await asyncio.Event().wait()

    async def run(self, ctx: Context) -> None:
        number = 0
        while True:
            if self._fault != "silent":
                await ctx.send(Token(text=str(number)), time=ctx.now_ns())
            number += 1
            if self._fault == "crash" and number > 20:
                os._exit(3)
            if self._fault == "freeze" and number > 20:
                time.sleep(3600)  # noqa: ASYNC251
            await ctx.sleep_until(ctx.now_ns() + self._gap_ns)
