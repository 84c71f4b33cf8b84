"""Cost per stage hop in one process.

A hop is what lies between the end of one stage's work and the start of the next one's. A paced source sends an
empty frame every 2 ms through `n` stages that pass it on to a sink; the time from source to sink is divided by
`n + 1` hops. Flood: a source that sends as fast as it is let, and how many frames per second reach the sink; the
bounded channels keep memory where it is, which is checked.
"""

from __future__ import annotations

import asyncio
import resource
import time
from functools import partial

import numpy as np

from thalweg.deploy.bench.peers import run_peer
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk
from thalweg.pipeline.stage import Context

STAGES = (1, 2, 5, 10, 20)
GAP_S = 0.002
PAYLOAD = AudioChunk(samples=np.zeros(320, np.float32), rate=16_000)


class Source:
    """`n` chunks of 20 ms, one every `gap_s`, or without a pause."""

    outputs = {"audio": AudioChunk}

    def __init__(self, n: int, gap_s: float) -> None:
        self._n = n
        self._gap_s = gap_s

    async def run(self, ctx: Context) -> None:
        """Send them all."""
        for _ in range(self._n):
            await ctx.send(PAYLOAD, time=ctx.now_ns())
            if self._gap_s:
                await asyncio.sleep(self._gap_s)


class PassOn:
    """Emits what it is given."""

    inputs = {"audio": AudioChunk}
    outputs = {"audio": AudioChunk}

    def process(self, packet: Packet, ctx: Context) -> None:
        """Pass it on."""
        ctx.emit(packet.payload)


class Sink:
    """Keeps how long each packet was under way, ns."""

    inputs = {"audio": AudioChunk}

    def __init__(self) -> None:
        self.ages_ns: list[int] = []

    def process(self, packet: Packet, ctx: Context) -> None:
        """Note its age."""
        self.ages_ns.append(ctx.now_ns() - packet.time)


def run_chain(stages: int, n: int, gap_s: float) -> tuple[list[int], float]:
    """Ages at the sink, ns, and the seconds the whole run took."""
    graph = Graph(name="chain")
    sink = Sink()
    graph.add("source", Source(n, gap_s))
    previous = "source"
    for i in range(stages):
        graph.add(f"stage{i}", PassOn())
        graph.connect(previous, f"stage{i}")
        previous = f"stage{i}"
    graph.add("sink", sink)
    graph.connect(previous, "sink")
    worker = Worker(graph)
    start = time.perf_counter()
    asyncio.run(worker.run())
    return sink.ages_ns, time.perf_counter() - start


def measure(result: Result, quick: bool) -> None:
    """Fill in the rows; the systems take turns, round by round, so that a slow moment hits both."""
    rounds, n, flood = (1, 300, 5_000) if quick else (5, 1_000, 20_000)
    chosen = STAGES[::4] if quick else STAGES
    result.rounds.expect(3 * rounds * len(chosen) + 1)
    for stages in chosen:
        case = f"stages={stages}"
        ours: list[float] = []
        theirs: list[float] = []
        our_flood: list[float] = []
        their_flood: list[float] = []
        for i in range(rounds):
            what = f"{case}, round {i + 1} of {rounds}"
            ages_ns, _ = result.rounds.ours(what, partial(run_chain, stages, n, GAP_S))
            ours += [age / 1e3 / (stages + 1) for age in ages_ns[n // 10 :]]
            our_flood.append(flood / result.rounds.ours(f"{what}, flood", partial(run_chain, stages, flood, 0.0))[1])
            arguments = [str(stages), str(n), str(GAP_S), str(flood)]
            found = run_peer("pipecat", "core/programs/pipecat_inprocess.py", arguments, result, what=what)
            if found is not None:
                theirs += [age / 1e3 / (stages + 1) for age in found["ages_ns"][n // 10 :]]
                their_flood.append(found["flood"])
        for system, hops, floods in ((OURS, ours, our_flood), ("pipecat", theirs, their_flood)):
            if hops:
                result.add(case, system, len(hops), "µs", hop_p50=quantile(hops, 0.5), hop_p99=quantile(hops, 0.99))
                result.add(case, system, len(floods), "frames/s", flood=quantile(floods, 0.5))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result.rounds.ours("memory at a flood", partial(run_chain, 2, flood * (2 if quick else 10), 0.0))
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    result.add("stages=2", OURS, 1, "MB", flood_memory_growth=grown_mb)
