"""Stages for measuring how one is moved: numbers at a steady pace, one that adds them up, and one that notes it all.

`Adder` keeps a state, takes as long as it is told, and says how many numbers it has seen, their sum, and where it is.
So each result shows whether one was lost or counted twice, wherever the stage was moved.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context

LASTS_NS = 60_000_000_000


class Steady:
    """`count` numbers, one every `gap_ms`, with `size` bytes each."""

    outputs = {"token": Token}

    def __init__(self, gap_ms: float = 100.0, count: int = 1_000_000, size: int = 0) -> None:
        self._gap_ns = round(gap_ms * 1e6)
        self._count = count
        self._rest = "." * size

    async def run(self, ctx: Context) -> None:
        """To the last."""
        began_ns = ctx.now_ns()
        for number in range(self._count):
            await ctx.sleep_until(began_ns + number * self._gap_ns)
            await ctx.send(Token(text=f"{number} {self._rest}"), time=ctx.now_ns())


class Adder:
    """Numbers in; out come the number, how many there were, their sum, and `here` or `there`. `ballast`: bytes that its
    state has besides.
    """

    inputs = {"token": Token}
    outputs = {"token": Token}
    blocking = True
    configurable = ("work_ms",)

    def __init__(self, work_ms: float = 1.0, ballast: int = 0) -> None:
        self._work_s = work_ms / 1000
        self._ballast = bytes(ballast)
        self._count = self._sum = 0
        self._where = ""

    def open(self, ctx: Context) -> None:
        """Find out where this is."""
        self._where = "there" if ctx.name == "lent" else "here"

    def process(self, packet: Packet[Token], ctx: Context) -> None:
        """One number."""
        number = int(packet.payload.text.split()[0])
        time.sleep(self._work_s)
        self._count += 1
        self._sum += number
        result = Token(text=f"{number} {self._count} {self._sum} {self._where}")
        ctx.emit(result, deadline=packet.time + LASTS_NS)  # one that is late is to be seen, too

    def configure(self, settings: Mapping[str, Any]) -> None:
        """How long it takes from now on."""
        self._work_s = settings["work_ms"] / 1000

    def snapshot(self) -> dict[str, Any]:
        """See `pipeline.stage`."""
        return {"count": self._count, "sum": self._sum, "ballast": self._ballast}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `pipeline.stage`."""
        self._count, self._sum, self._ballast = state["count"], state["sum"], state["ballast"]


class Noted:
    """Keeps what comes, with when: `results`, of the last one that was made."""

    inputs = {"token": Token}
    results: ClassVar[list[tuple[int, int, str]]] = []

    def __init__(self) -> None:
        Noted.results = []

    def process(self, packet: Packet[Token], ctx: Context) -> None:
        """Capture, now, text."""
        Noted.results.append((packet.time, ctx.now_ns(), packet.payload.text))
