"""Whatever goes wrong costs one packet, names its own stage, and freezes nothing."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import packet, run_stage, run_virtual
from thalweg.pipeline.channel import Channel, Push
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.signal import Direction, Interrupt
from thalweg.pipeline.stage import Context

MS = 1_000_000


class Count:
    """`n` packets, one every 10 ms."""

    outputs = {"text": Token}

    def __init__(self, n: int = 10, epoch: int = 1) -> None:
        self.n = n
        self.epoch = epoch

    async def run(self, ctx: Context) -> None:
        for i in range(self.n):
            await ctx.send(Token(text=str(i)), time=ctx.now_ns(), epoch=self.epoch)
            await ctx.sleep_until(ctx.now_ns() + 10 * MS)


class Keep:
    """Keeps what comes."""

    inputs = {"text": Token}

    def __init__(self) -> None:
        self.texts: list[str] = []

    def process(self, packet: Packet[Token], ctx: Context) -> None:
        self.texts.append(packet.payload.text)


class Odd:
    """Passes on, and does something odd with the fourth packet."""

    inputs = {"text": Token}
    outputs = {"text": Token}

    def __init__(self, act: Callable[[Packet[Token], Any], None]) -> None:
        self.act = act

    def process(self, packet: Packet[Token], ctx: Context) -> None:
        self.act(packet, ctx) if packet.seq == 3 else ctx.emit(packet.payload)


class OddAsync(Odd):
    """The same, async."""

    async def process(self, packet: Packet[Token], ctx: Context) -> None:  # type: ignore[override]
        super().process(packet, ctx)


class OddThread(Odd):
    """The same, on a thread."""

    blocking = True


class Unspeakable(Exception):
    """An exception that cannot even be shown."""

    def __str__(self) -> str:
        raise ValueError("no words")


def leave(packet: Packet[Token], ctx: Any) -> None:
    sys.exit(3)


def cancel(packet: Packet[Token], ctx: Any) -> None:
    raise asyncio.CancelledError


def stop_iterating(packet: Packet[Token], ctx: Any) -> None:
    next(iter(()))


def be_unspeakable(packet: Packet[Token], ctx: Any) -> None:
    raise Unspeakable


def shift_time(packet: Packet[Token], ctx: Any) -> None:
    ctx.emit(packet.payload, time=packet.time - 0.005 * 1e9)


def break_epoch(packet: Packet[Token], ctx: Any) -> None:
    ctx.emit(packet.payload, epoch="one")


def break_deadline(packet: Packet[Token], ctx: Any) -> None:
    ctx.emit(packet.payload, deadline=1e18)


def emit_no_payload(packet: Packet[Token], ctx: Any) -> None:
    ctx.emit("text")


ODD = [leave, cancel, stop_iterating, be_unspeakable, shift_time, break_epoch, break_deadline, emit_no_payload]


def graph_of(odd: object) -> tuple[Graph, Keep, Keep]:
    """A source, an odd stage and a sink; and next to them a source with a sink that have nothing to do with them."""
    graph, after, beside = Graph(), Keep(), Keep()
    stages = {"count": Count(), "odd": odd, "after": after, "other": Count(), "beside": beside}
    for name, stage in stages.items():
        graph.add(name, stage)
    graph.connect("count", "odd")
    graph.connect("odd", "after")
    graph.connect("other", "beside")
    return graph, after, beside


def run(graph: Graph, prepare: Callable[[Worker], None] = lambda worker: None) -> Worker:
    clock = VirtualClock()
    worker = Worker(graph, clock=clock)
    prepare(worker)
    run_virtual(worker.run(), clock)
    return worker


@pytest.mark.parametrize("kind", [Odd, OddAsync, OddThread])
@pytest.mark.parametrize("act", ODD)
def test_an_odd_packet_is_lost_alone_and_its_own_stage_is_named(kind: type[Odd], act: Callable[..., None]) -> None:
    graph, after, beside = graph_of(kind(act))
    worker = run(graph)
    assert after.texts == [str(i) for i in range(10) if i != 3]
    assert beside.texts == [str(i) for i in range(10)]
    assert [problem.stage for problem in worker.problems] == ["odd"]


@pytest.mark.parametrize("error", [BrokenPipeError, KeyError, Unspeakable, SystemExit])
def test_a_callback_for_problems_that_raises_freezes_nothing(error: type[BaseException]) -> None:
    def broken(problem: object) -> None:
        raise error

    graph, after, beside = graph_of(Odd(shift_time))
    worker = run(graph, lambda worker: setattr(worker, "on_problem", broken))
    assert (len(after.texts), len(beside.texts), worker.problem_count) == (9, 10, 1)


def test_a_channel_that_raises_costs_that_packet_and_its_producer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    push = Channel.push

    def refuse_one(channel: Channel, packet: Packet, now_ns: int) -> Push:
        if packet.stream == "odd.text" and packet.seq == 3:
            raise ZeroDivisionError
        return push(channel, packet, now_ns)

    monkeypatch.setattr(Channel, "push", refuse_one)
    graph, after, beside = graph_of(Odd(lambda packet, ctx: ctx.emit(packet.payload)))
    worker = run(graph)
    assert (len(after.texts), len(beside.texts)) == (9, 10)
    assert [(p.stage, p.message) for p in worker.problems] == [("odd", "ZeroDivisionError")]


def test_a_failure_outside_of_process_is_that_stages_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(worker: Worker) -> None:
        take = worker.actors["odd"].take

        def take_but_one(now_ns: int) -> Packet | None:
            taken = take(now_ns)
            if taken is not None and taken.seq == 3:
                raise ZeroDivisionError
            return taken

        monkeypatch.setattr(worker.actors["odd"], "take", take_but_one)

    graph, after, beside = graph_of(Odd(lambda packet, ctx: ctx.emit(packet.payload)))
    worker = run(graph, prepare)
    assert (len(after.texts), len(beside.texts)) == (9, 10)
    assert [(p.stage, p.epoch) for p in worker.problems] == [("odd", 1)]


class CancelsItself(Count):
    """A source that ends by an exception that asyncio has its own ideas about."""

    async def run(self, ctx: Context) -> None:
        await super().run(ctx)
        raise asyncio.CancelledError


class Plain(Count):
    """A source whose `run` is no coroutine."""

    def run(self, ctx: Context) -> None:  # type: ignore[override]
        pass


@pytest.mark.parametrize(
    ("source", "said"), [(CancelsItself(), "it cancelled itself"), (Plain(), "`run` of a source must be async")]
)
def test_a_source_that_ends_oddly_ends_its_streams_and_is_named(source: Count, said: str) -> None:
    graph, keep = Graph(), Keep()
    graph.add("source", source)
    graph.add("keep", keep)
    graph.connect("source", "keep")
    worker = run(graph)
    assert [problem.stage for problem in worker.problems] == ["source"]
    assert said in worker.problems[0].message


class TwoTasks:
    """A source that sends from two tasks."""

    outputs = {"a": Token, "b": Token}

    async def run(self, ctx: Context) -> None:
        async def send(port: str) -> None:
            for i in range(100):
                await ctx.send(Token(text=str(i)), port=port, time=ctx.now_ns())

        async with asyncio.TaskGroup() as group:
            group.create_task(send("a"))
            group.create_task(send("b"))


class Slow(Keep):
    """Takes a millisecond."""

    async def process(self, packet: Packet[Token], ctx: Context) -> None:  # type: ignore[override]
        await asyncio.sleep(0.001)
        super().process(packet, ctx)


def test_two_tasks_of_a_source_are_both_served() -> None:
    graph, a, b = Graph(), Slow(), Slow()
    for name, stage in {"source": TwoTasks(), "a": a, "b": b}.items():
        graph.add(name, stage)
    graph.connect("source.a", "a")
    graph.connect("source.b", "b")
    run(graph)
    assert a.texts == b.texts == [str(i) for i in range(100)]


class TwoListeners:
    """An async stage of which two tasks wait for the packet behind the one in hand."""

    inputs = {"text": Token}
    outputs = {"text": Token}

    async def process(self, packet: Packet[Token], ctx: Context) -> None:
        if packet.seq == 0:
            found = await asyncio.gather(ctx.waiting(), ctx.waiting())
            for next_packet in found:
                ctx.emit(next_packet.payload)


def test_two_tasks_that_wait_for_a_packet_are_both_told() -> None:
    first, second = packet(Token(text="a")), packet(Token(text="b"), time=5 * MS, seq=1)
    assert [token.text for token in run_stage(TwoListeners(), [first, second]).payloads()][:2] == ["b", "b"]


class OwnThread:
    """A plain stage that emits from a thread of its own, a while after it was given something."""

    inputs = {"text": Token}
    outputs = {"text": Token}

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None

    def process(self, packet: Packet[Token], ctx: Context) -> None:
        payload = packet.payload
        self.thread = threading.Thread(target=lambda: ctx.emit(payload))
        self.thread.start()


def test_what_a_plain_stage_emits_from_a_thread_of_its_own_goes_on_at_once() -> None:
    graph, keep, stage = Graph(), Keep(), OwnThread()
    graph.add("count", Count(1))
    graph.add("stage", stage)
    graph.add("keep", keep)
    graph.connect("count", "stage")
    graph.connect("stage", "keep")

    async def main() -> None:
        worker = Worker(graph)
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            while not keep.texts:  # noqa: ASYNC110  # no event marks that moment
                await asyncio.sleep(0.001)

    asyncio.run(main())
    assert keep.texts == ["0"]


class Utterances:
    """A blocking stage that begins turns from its thread, as fast as it can."""

    inputs = {"text": Token}
    outputs = {"text": Token}
    blocking = True

    def process(self, packet: Packet[Token], ctx: Context) -> None:
        for _ in range(20):
            ctx.emit(packet.payload, epoch=ctx.new_epoch())


class Interrupts(Keep):
    """A sink that interrupts at every packet."""

    def process(self, packet: Packet[Token], ctx: Context) -> None:
        super().process(packet, ctx)
        ctx.signal(Interrupt(origin="sink", epoch=1), Direction.UP)


def test_turns_begun_in_a_thread_while_the_loop_interrupts_others_are_all_there() -> None:
    graph, sink = Graph(), Interrupts()
    graph.add("count", Count(50, epoch=AMBIENT))
    graph.add("cut", Utterances())
    graph.add("sink", sink)
    graph.connect("count", "cut")
    graph.connect("cut", "sink")
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        worker = run(graph)
    finally:
        sys.setswitchinterval(before)
    assert worker.problems == []
    assert list(worker.turns.turns) == list(range(1, 1001))


class Numbered:
    """Counts numpy's numbers."""

    inputs = {"text": Token}

    def __init__(self, counts: object) -> None:
        self.counts = counts

    def process(self, packet: Packet[Token], ctx: Context) -> None:
        pass


@pytest.mark.parametrize(
    ("counts", "read"), [({"a": 1, "b": 0.5}, {"a": 1, "b": 0.5}), ({"a": "many"}, {}), (3, {}), (None, {})]
)
def test_counts_are_numbers_or_nothing(counts: object, read: dict[str, float]) -> None:
    graph = Graph()
    graph.add("count", Count())
    graph.add("numbered", Numbered(counts))
    graph.connect("count", "numbered")
    assert Worker(graph).actors["numbered"].counts == read
