"""Stages for the page's test: something seen every second, and one that is too slow for every 200th number."""

from __future__ import annotations

import time

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Detection, Detections, Token
from thalweg.pipeline.stage import Context

SECOND_NS = 1_000_000_000


class Lookout:
    """A detection a second."""

    outputs = {"detections": Detections}

    async def run(self, ctx: Context) -> None:
        while True:
            pad = Detection(kind="ground", text="pad", score=0.9, x=0.1, y=0.1, width=0.3, height=0.2)
            await ctx.send(Detections(items=(pad,)), time=ctx.now_ns())
            await ctx.sleep_until(ctx.now_ns() + SECOND_NS)


class Uneven:
    """Takes 2 ms, and every 200th time 200 ms."""

    inputs = {"token": Token}
    outputs = {"token": Token}
    blocking = True

    def process(self, packet: Packet[Token], ctx: Context) -> None:
        time.sleep(0.2 if int(packet.payload.text.split()[0]) % 200 == 199 else 0.002)
        ctx.emit(packet.payload)
