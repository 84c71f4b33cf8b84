"""One end of `bench hop`: a worker with one stage, its edge and the transport, in a process of its own.

It reads its orders as one JSON line from standard input: `{end, transport, address, certificates, sizes, n, gap_s}`.
The consumer prints the address it listens at and, in the end, `{size: [ns, …]}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import numpy as np

from thalweg.deploy.cluster.host import window_of
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import VideoFrame
from thalweg.pipeline.stage import Context
from thalweg.transports.grpc.tls import Certificates
from thalweg.transports.shm.listener import ShmListener
from thalweg.transports.shm.sender import connect

TOKEN = "bench"
SHARED_MEMORY = "thalweg"


class Source:
    """`n` pictures of each size, one every `gap_s`, stamped just before they are sent."""

    outputs = {"video": VideoFrame}

    def __init__(self, sizes: list[int], n: int, gap_s: float) -> None:
        self._sizes = sizes
        self._n = n
        self._gap_s = gap_s

    async def run(self, ctx: Context) -> None:
        """Send them all."""
        for size in self._sizes:
            picture = VideoFrame(pixels=np.zeros((1, size), np.uint8))
            for _ in range(self._n):
                await ctx.send(picture, time=ctx.now_ns())
                await asyncio.sleep(self._gap_s)


class Sink:
    """Notes how long each picture was under way."""

    inputs = {"video": VideoFrame}

    def __init__(self) -> None:
        self.hops_ns: dict[int, list[int]] = {}

    def process(self, packet: Packet, ctx: Context) -> None:
        """Note its age."""
        passed_ns = ctx.now_ns() - packet.time
        self.hops_ns.setdefault(packet.payload.pixels.size, []).append(passed_ns)  # type: ignore[attr-defined]


async def consume(orders: dict[str, Any], graph: Graph, edge: str) -> None:
    """Listen, and run to the end."""
    worker = Worker(graph, hosted=["sink"])
    window = window_of(graph.connections[0])
    connected = asyncio.Event()

    def accepted(_: str, receiver: Any) -> None:
        worker.inlets[edge].attach(receiver)
        connected.set()

    if orders["transport"] == SHARED_MEMORY:
        local = ShmListener(f"thalweg-bench-{os.getpid()}", TOKEN, accepted)
        local.expect(edge, window)
        print(local.address, flush=True)
        await connected.wait()
        local.close()
        await worker.run()
    else:
        from thalweg.transports.grpc.listener import GrpcListener

        remote = GrpcListener(TOKEN, accepted, certificates(orders))
        remote.expect(edge, window)
        wanted = orders["address"]
        port = await remote.start(wanted if wanted.startswith("unix:") else f"{wanted}:0")
        print(wanted if wanted.startswith("unix:") else f"{wanted}:{port}", flush=True)
        await connected.wait()
        await worker.run()
        await remote.stop()


async def produce(orders: dict[str, Any], graph: Graph, edge: str) -> None:
    """Connect, and run to the end."""
    worker = Worker(graph, hosted=["source"])
    if orders["transport"] == SHARED_MEMORY:
        worker.outlets[edge].attach(await connect(orders["address"], edge, TOKEN))
    else:
        from thalweg.transports.grpc.sender import GrpcSender

        sender = GrpcSender(orders["address"], edge, TOKEN, certificates(orders))
        worker.outlets[edge].attach(sender)
        await sender.connected()
    await worker.run()


def certificates(orders: dict[str, Any]) -> Certificates | None:
    """Those of the orders, if there are any."""
    texts = orders["certificates"]
    return Certificates(*(text.encode() for text in texts)) if texts else None


def main() -> None:
    """Entry point."""
    orders = json.loads(sys.stdin.readline())
    graph = Graph(name="hop")
    sink = Sink()
    graph.add("source", Source(orders["sizes"], orders["n"], orders["gap_s"]))
    graph.add("sink", sink)
    graph.connect("source", "sink")
    edge = graph.connections[0].name
    if orders["end"] == "sink":
        asyncio.run(consume(orders, graph, edge))
        print(json.dumps(sink.hops_ns), flush=True)
    else:
        asyncio.run(produce(orders, graph, edge))


if __name__ == "__main__":
    main()
