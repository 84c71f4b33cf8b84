"""One end of `bench freshness` across processes or hosts; started as the ends of `bench hop` are.

Orders besides: `frames`, and `kind`: `latest` (a 30 fps source of VGA pictures, a consumer that takes 100 ms) or
`block` (a source that sends as fast as it is let, a consumer that takes 50 ms). Both ends print a JSON line in the end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.deploy.bench.core.freshness import Camera, SlowConsumer
from thalweg.deploy.bench.core.hop_end import consume, produce
from thalweg.pipeline.channel import Policy
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import VideoFrame
from thalweg.pipeline.stage import Context

BLOCKED_CONSUMER_S = 0.05
WARM_UP = 0.3


class Flood:
    """VGA pictures as fast as they are taken, and when each could be sent."""

    outputs = {"video": VideoFrame}

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self.sent_s: list[float] = []

    async def run(self, ctx: Context) -> None:
        """Send them all."""
        for i in range(self._frames):
            await ctx.send(VideoFrame(pixels=np.full((480, 640, 3), i % 256, np.uint8)), time=ctx.now_ns())
            self.sent_s.append(time.monotonic())


class Steady:
    """Takes 50 ms per frame."""

    inputs = {"video": VideoFrame}

    def __init__(self) -> None:
        self.taken = 0

    async def process(self, packet: Packet, ctx: Context) -> None:
        """Take one."""
        await asyncio.sleep(BLOCKED_CONSUMER_S)
        self.taken += 1


class Memory:
    """Resident memory of this process over time, by a thread."""

    def __init__(self) -> None:
        self._seen_mb: list[float] = []
        threading.Thread(target=self._watch, daemon=True).start()

    def grown_mb(self) -> float:
        """The most there was, less what there was after warming up."""
        settled = self._seen_mb[int(WARM_UP * len(self._seen_mb))]
        return max(self._seen_mb) - settled

    def _watch(self) -> None:
        while True:
            pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
            self._seen_mb.append(pages * 4096 / 1e6)
            time.sleep(0.05)


def main() -> None:
    """Entry point."""
    orders: dict[str, Any] = json.loads(sys.stdin.readline())
    graph = Graph(name="freshness")
    memory = Memory()
    camera, flood = Camera(orders["frames"]), Flood(orders["frames"])
    slow, steady = SlowConsumer(), Steady()
    latest = orders["kind"] == "latest"
    graph.add("source", camera if latest else flood)
    graph.add("sink", slow if latest else steady)
    graph.connect("source", "sink", policy=Policy.LATEST if latest else Policy.BLOCK)
    edge = graph.connections[0].name
    if orders["end"] == "sink":
        asyncio.run(consume(orders, graph, edge))
        found = {"ages_ms": slow.ages_ms, "taken": steady.taken, "grown_mb": memory.grown_mb()}
    else:
        asyncio.run(produce(orders, graph, edge))
        found = {"sent_s": flood.sent_s, "grown_mb": memory.grown_mb()}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
