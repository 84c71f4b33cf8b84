"""How old a camera frame is when a consumer that is three times too slow gets to it.

A 30 fps source of synthetic VGA pictures, a consumer that takes 100 ms for each, a channel that keeps the newest.
"""

from __future__ import annotations

import asyncio

import numpy as np

from thalweg.deploy.bench.peers import run_peer
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.channel import Policy
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import VideoFrame
from thalweg.pipeline.stage import Context

FPS = 30
CONSUMER_S = 0.1


class Camera:
    """Grey pictures, 640 × 480, at 30 fps."""

    outputs = {"video": VideoFrame}

    def __init__(self, frames: int) -> None:
        self._frames = frames

    async def run(self, ctx: Context) -> None:
        """Emit each frame when it is due."""
        start_ns = ctx.now_ns()
        for i in range(self._frames):
            await ctx.sleep_until(start_ns + i * 1_000_000_000 // FPS)
            await ctx.send(VideoFrame(pixels=np.full((480, 640, 3), i % 256, np.uint8)), time=ctx.now_ns())


class SlowConsumer:
    """Takes 100 ms per frame and notes how old it was when it came."""

    inputs = {"video": VideoFrame}

    def __init__(self) -> None:
        self.ages_ms: list[float] = []

    async def process(self, packet: Packet, ctx: Context) -> None:
        """Look at one frame."""
        self.ages_ms.append((ctx.now_ns() - packet.time) / 1e6)
        await asyncio.sleep(CONSUMER_S)


def measure(result: Result, quick: bool) -> None:
    """Fill in the rows of the case `process`."""
    frames = 30 * (3 if quick else 30)
    graph = Graph(name="freshness")
    consumer = SlowConsumer()
    graph.add("camera", Camera(frames))
    graph.add("consumer", consumer)
    graph.connect("camera", "consumer", policy=Policy.LATEST)
    worker = Worker(graph)
    result.rounds.expect(2)
    result.rounds.ours(f"{frames} frames at {FPS} a second", lambda: asyncio.run(worker.run()))
    stats = worker.edges[0].channel.stats
    dropped = sum(stats.drops.values())
    if stats.pushed != frames or stats.popped + dropped != frames:
        result.notes.append(f"drops do not add up: {frames} sent, {stats.popped} taken, {dropped} dropped")
    _add(result, OURS, consumer.ages_ms, dropped)
    half = len(consumer.ages_ms) // 2
    growth = quantile(consumer.ages_ms[half:], 0.5) - quantile(consumer.ages_ms[:half], 0.5)
    result.add("process", OURS, len(consumer.ages_ms), "ms", age_growth=growth)
    found = run_peer("pipecat", "core/programs/pipecat_freshness.py", [str(frames), str(FPS), str(CONSUMER_S)], result)
    if found is not None:
        ages_ms = [age / 1e6 for age in found["ages_ns"]]
        _add(result, "pipecat", ages_ms, frames - len(ages_ms))


def _add(result: Result, system: str, ages_ms: list[float], dropped: int) -> None:
    p50, p99 = quantile(ages_ms, 0.5), quantile(ages_ms, 0.99)
    result.add("process", system, len(ages_ms), "ms", age_p50=p50, age_p99=p99, age_max=max(ages_ms))
    result.add("process", system, len(ages_ms), "frames", dropped=dropped)
