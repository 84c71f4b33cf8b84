"""What one look at a running worker takes of its loop: `python tests/bench/stats_cost.py`."""

from __future__ import annotations

import asyncio
import json
import statistics
import time

from thalweg.deploy.ops.observing.stats import stats_of
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context

STAGES, PACKETS, LOOKS = 10, 3000, 200


class Source:
    """A thousand packets to a turn."""

    outputs = {"out": Token}

    async def run(self, ctx: Context) -> None:
        for i in range(PACKETS):
            await ctx.send(Token(text="x"), time=ctx.now_ns(), epoch=i // 10 + 1)


class Pass:
    """Passes on."""

    inputs = {"in": Token}
    outputs = {"out": Token}

    def process(self, packet: Packet, ctx: Context) -> None:
        ctx.emit(packet.payload)


class Sink:
    """Takes."""

    inputs = {"in": Token}

    def process(self, packet: Packet, ctx: Context) -> None:
        pass


def main() -> None:
    """A worker with ten stages, eleven channels and full histograms and turns."""
    graph = Graph(name="looks")
    graph.add("source", Source())
    last = "source"
    for i in range(STAGES):
        graph.add(f"pass{i}", Pass())
        graph.connect(last, f"pass{i}")
        last = f"pass{i}"
    graph.add("sink", Sink())
    graph.connect(last, "sink")
    worker = Worker(graph)
    asyncio.run(worker.run())
    times = []
    for _ in range(LOOKS):
        start_s = time.process_time()
        stats = stats_of(worker)
        times.append((time.process_time() - start_s) * 1e3)
    size = len(json.dumps(stats))
    print(f"CPU time of a look: median {statistics.median(times):.2f} ms, most {max(times):.2f} ms, {size:,} bytes")


if __name__ == "__main__":
    main()
