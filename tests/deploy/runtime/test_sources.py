"""Sources that raise: ended, or run again where their file says so."""

from __future__ import annotations

import asyncio

from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import Collect, run_virtual
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.graph import Graph, Vertex
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context, Port, describe

MS = 1_000_000


class Keep(Collect):
    """Keeps what comes."""

    inputs = {"text": Port(Token)}


class Unsteady:
    """A device that is not there the first three times."""

    outputs = {"text": Token}

    def __init__(self) -> None:
        self.tried_ns: list[int] = []

    async def run(self, ctx: Context) -> None:
        self.tried_ns.append(ctx.now_ns())
        if len(self.tried_ns) < 4:
            raise ConnectionError("the camera is not there")
        for text in ("0", "1"):
            await ctx.send(Token(text=text), time=ctx.now_ns())


def unsteady(retry_ns: int | None) -> tuple[Unsteady, Keep, Worker]:
    graph, source, sink = Graph(), Unsteady(), Keep()
    graph.add_vertex(Vertex(name="camera", info=describe(Unsteady), make=lambda: source, retry_ns=retry_ns))
    graph.add("sink", sink)
    graph.connect("camera", "sink")
    clock = VirtualClock()
    worker = Worker(graph, clock=clock)
    run_virtual(worker.run(), clock)
    return source, sink, worker


def test_a_source_that_raises_is_run_again_where_it_says_so_later_each_time() -> None:
    source, sink, worker = unsteady(100 * MS)
    assert [(at_ns - source.tried_ns[0]) // MS for at_ns in source.tried_ns] == [0, 100, 300, 700]
    assert [emitted.packet.payload.text for emitted in sink.emitted] == ["0", "1"]
    assert [(p.recovered, p.message) for p in worker.problems][:1] == [
        (True, "the camera is not there; it is run again in 0.1 s")
    ]
    assert (worker.problem_count, worker.actors["camera"].failures) == (1, 3)  # one streak, three failures


def test_a_source_that_raises_has_ended_where_it_says_nothing() -> None:
    source, _, worker = unsteady(None)
    assert len(source.tried_ns) == 1
    assert [problem.recovered for problem in worker.problems] == [False]


def test_a_source_that_waits_to_be_run_again_ends_when_the_run_does() -> None:
    graph = Graph()
    graph.add_vertex(Vertex(name="camera", info=describe(Unsteady), make=Unsteady, retry_ns=3_600_000 * MS))
    graph.add("sink", Keep())
    graph.connect("camera", "sink")
    clock = VirtualClock()
    worker = Worker(graph, clock=clock)

    async def stopped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await asyncio.sleep(1)
            worker.stop()

    run_virtual(stopped(), clock)
    assert clock.now_ns() < 60_000 * MS
    assert [(problem.recovered, problem.final) for problem in worker.problems] == [(True, False), (False, True)]
