"""CPU time of a hop in one process, of one or several source trees in turn: what a change to the packet path costs.

    python tests/bench/hop_cpu.py TREE [TREE …] [--rounds 12] [--spans]

Each round runs every tree once, in a process of its own, so that what else the machine does meets all of them alike;
CPU time instead of the clock's, and the least of six runs, leave most of that out. `--spans`: with a tracer provider.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import subprocess
import sys
import time

PACKETS, STAGES, RUNS = 4000, 8, 6


def measure() -> float:
    """µs of CPU time per hop, the least of `RUNS`."""
    from thalweg.deploy.runtime.worker import Worker
    from thalweg.pipeline.graph import Graph
    from thalweg.pipeline.packet import Packet
    from thalweg.pipeline.payload import Token
    from thalweg.pipeline.stage import Context

    token = Token(text="x")

    class Source:
        outputs = {"out": Token}

        async def run(self, ctx: Context) -> None:
            for i in range(PACKETS):
                await ctx.send(token, time=ctx.now_ns(), epoch=i // 1000 + 1)

    class Pass:
        inputs = {"in": Token}
        outputs = {"out": Token}

        def process(self, packet: Packet, ctx: Context) -> None:
            ctx.emit(packet.payload)

    class Sink:
        inputs = {"in": Token}

        def process(self, packet: Packet, ctx: Context) -> None:
            pass

    def once() -> float:
        graph = Graph(name="hops")
        names = ["source", *(f"pass{i}" for i in range(STAGES)), "sink"]
        for name in names:
            graph.add(name, Source() if name == "source" else Sink() if name == "sink" else Pass())
        for source, target in itertools.pairwise(names):
            graph.connect(source, target)
        worker = Worker(graph)
        start_s = time.process_time()
        asyncio.run(worker.run())
        return (time.process_time() - start_s) / (PACKETS * (STAGES + 1)) * 1e6

    return min(once() for _ in range(RUNS))


def use_spans() -> None:
    """An SDK that records every span and sends it nowhere."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())


def main() -> None:
    """Compare trees, or, without one, print one measurement of the tree on `PYTHONPATH`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="*")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--spans", action="store_true")
    arguments = parser.parse_args()
    if not arguments.trees:
        if arguments.spans:
            use_spans()
        print(measure())
        return
    found: dict[str, list[float]] = {tree: [] for tree in arguments.trees}
    for _ in range(arguments.rounds):
        for tree in arguments.trees:
            command = [sys.executable, os.path.abspath(__file__), *(["--spans"] if arguments.spans else [])]
            done = subprocess.run(
                command, env=os.environ | {"PYTHONPATH": tree}, cwd=tree, capture_output=True, text=True, check=True
            )
            found[tree].append(float(done.stdout))
    first = found[arguments.trees[0]]
    for tree, values in found.items():
        paired = statistics.median(b / a for a, b in zip(first, values, strict=True))
        print(f"{tree}: median {statistics.median(values):.2f} µs, least {min(values):.2f} µs, ratio {paired:.3f}")


if __name__ == "__main__":
    main()
