"""The worker: packets go where they should, problems are counted, and everything ends."""

from __future__ import annotations

import asyncio
import threading
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import Field

from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import packet, run_stage, run_virtual
from thalweg.pipeline.channel import Drop, Policy
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.node import NodeState
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, Token
from thalweg.pipeline.signal import Configure, Failure, Interrupt
from thalweg.pipeline.stage import Context

MS = 1_000_000


class Shout:
    """Upper-cases tokens; fails on one word."""

    inputs = {"text": Token}
    outputs = {"text": Token}

    def process(self, packet: Packet, ctx: Context) -> None:
        assert isinstance(packet.payload, Token)
        if packet.payload.text == "bad":
            raise ValueError("I do not shout that")
        ctx.emit(Token(text=packet.payload.text.upper()))

    def finish(self, ctx: Context) -> None:
        ctx.emit(Token(text="!", last=True))


class SlowShout(Shout):
    """The same, taking 10 ms a token."""

    async def process(self, packet: Packet, ctx: Context) -> None:  # type: ignore[override]
        await asyncio.sleep(0.010)
        super().process(packet, ctx)


class ThreadShout(Shout):
    """The same, on a thread of its own."""

    blocking = True


class Count:
    """A source of numbers, as fast as they are taken."""

    outputs = {"text": Token}

    def __init__(self, n: int, gap_ns: int = 0) -> None:
        self.n = n
        self.gap_ns = gap_ns

    async def run(self, ctx: Context) -> None:
        for i in range(self.n):
            await ctx.send(Token(text=str(i)), time=ctx.now_ns())
            if self.gap_ns:
                await ctx.sleep_until(ctx.now_ns() + self.gap_ns)


class Keep:
    """A sink that keeps texts and the thread it ran in."""

    inputs = {"text": Token}

    def __init__(self, delay_s: float = 0.0) -> None:
        self.texts: list[str] = []
        self.delay_s = delay_s
        self.closed = False

    async def process(self, packet: Packet, ctx: Context) -> None:
        assert isinstance(packet.payload, Token)
        await asyncio.sleep(self.delay_s)
        self.texts.append(packet.payload.text)

    def close(self) -> None:
        self.closed = True


def words(*texts: str, epoch: int = 0) -> list[Any]:
    return [packet(Token(text=text), time=i * MS, epoch=epoch) for i, text in enumerate(texts)]


def test_a_plain_stage_gets_every_packet_and_finishes_behind_the_last() -> None:
    assert [t.text for t in run_stage(Shout(), words("a", "b")).payloads()] == ["A", "B", "!"]


def test_an_async_stage_gets_packets_one_after_the_other() -> None:
    outcome = run_stage(SlowShout(), words("a", "b"))
    assert [(t.payload.text, t.at_ns) for t in outcome.emitted[:2]] == [("A", 10 * MS), ("B", 20 * MS)]


def test_a_blocking_stage_runs_off_the_loop_and_keeps_order() -> None:
    outcome = run_stage(ThreadShout(), words(*"abcdefgh"))
    assert "".join(t.text for t in outcome.payloads()) == "ABCDEFGH!"


def test_a_stage_that_raises_loses_that_packet_only_and_downstream_is_told() -> None:
    outcome = run_stage(Shout(), words("a", "bad", "c", epoch=1))
    assert [t.text for t in outcome.payloads()] == ["A", "C", "!"]
    assert outcome.problems == ["stage: ValueError: I do not shout that"]
    assert outcome.signals == [Failure(origin="stage", epoch=1, message="ValueError: I do not shout that")]


def test_a_source_is_held_up_by_a_slow_sink_and_nothing_is_lost() -> None:
    sink = Keep(delay_s=0.001)
    graph = Graph()
    graph.add("source", Count(100))
    graph.add("sink", sink)
    graph.connect("source", "sink", capacity=4)
    clock = VirtualClock()
    worker = Worker(graph, clock=clock)
    run_virtual(worker.run(), clock)
    assert sink.texts == [str(i) for i in range(100)]
    assert worker.edges[0].channel.stats.max_depth == 4
    assert sink.closed


def test_a_latest_edge_gives_a_slow_sink_the_newest_packet_and_counts_the_rest() -> None:
    sink = Keep(delay_s=0.1)
    graph = Graph()
    graph.add("source", Count(30, gap_ns=33 * MS))
    graph.add("sink", sink)
    graph.connect("source", "sink", policy=Policy.LATEST)
    clock = VirtualClock()
    worker = Worker(graph, clock=clock)
    run_virtual(worker.run(), clock)
    stats = worker.edges[0].channel.stats
    assert stats.pushed == 30 == stats.popped + stats.drops[Drop.SUPERSEDED]
    assert worker.edges[0].age.maximum_ns <= 110 * MS


def test_an_interrupt_cancels_the_async_call_whose_packet_it_made_stale() -> None:
    stale = packet(Token(text="old"), time=0, epoch=1)
    fresh = packet(Token(text="new"), time=6 * MS, epoch=2)
    outcome = run_stage(SlowShout(), [stale, (5 * MS, Interrupt(origin="feed", epoch=2)), fresh])
    assert [(t.payload.text, t.at_ns) for t in outcome.emitted[:1]] == [("NEW", 16 * MS)]
    assert outcome.problems == []


def test_stop_ends_the_sources_and_drains_what_is_under_way() -> None:
    sink = Keep(delay_s=0.001)
    graph = Graph()
    graph.add("source", Count(1_000_000))
    graph.add("sink", sink)
    graph.connect("source", "sink", capacity=4)
    clock = VirtualClock()
    worker = Worker(graph, clock=clock)

    async def stop_after_a_while() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await asyncio.sleep(0.0105)
            worker.stop()

    run_virtual(stop_after_a_while(), clock)
    stats = worker.edges[0].channel.stats
    assert len(sink.texts) == stats.pushed == stats.popped
    assert len(sink.texts) < 20


class SlowToOpen(Keep):
    """Takes a second to open."""

    async def open(self, ctx: Context) -> None:
        await asyncio.sleep(1)


@pytest.mark.parametrize(("how", "ended_at_ns"), [("stop", 1_000 * MS), ("abandon", 10 * MS)])
def test_a_worker_told_to_end_while_it_opens_runs_nothing(how: str, ended_at_ns: int) -> None:
    sink = SlowToOpen()
    graph = Graph()
    graph.add("source", Count(1_000_000))
    graph.add("sink", sink)
    graph.connect("source", "sink")
    clock = VirtualClock()
    worker = Worker(graph, clock=clock)

    async def end_it() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await asyncio.sleep(0.010)
            getattr(worker, how)()

    run_virtual(end_it(), clock)
    assert (sink.texts, worker.ended_ns) == ([], ended_at_ns)


def test_threads_are_gone_when_the_run_is_over() -> None:
    run_stage(ThreadShout(), words("a"))
    left = [t for t in threading.enumerate() if t.name.startswith("stage")]
    for thread in left:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in left)


def test_a_port_refuses_a_payload_of_another_type() -> None:
    class Wrong(Shout):
        def process(self, packet: Packet, ctx: Context) -> None:
            ctx.emit(AudioChunk(samples=np.zeros(1, np.float32), rate=8000))

    assert run_stage(Wrong(), words("a")).problems == [
        "stage: stage stage emitted a AudioChunk on port text, which carries Token"
    ]


class Echo:
    """Repeats tokens `times` times."""

    inputs = {"text": Token}
    outputs = {"text": Token}
    configurable = ("times",)

    def __init__(self, times: Annotated[int, Field(ge=1, le=3)] = 1, mark: str = "") -> None:
        self.times = times
        self.mark = mark

    def configure(self, settings: dict[str, Any]) -> None:
        self.times = settings["times"]

    def process(self, packet: Packet, ctx: Context) -> None:
        assert isinstance(packet.payload, Token)
        ctx.emit(Token(text=packet.payload.text * self.times))


def test_a_configure_signal_changes_the_stage_it_names_between_two_packets() -> None:
    a, b = words("a", "b")
    outcome = run_stage(Echo(), [a, (1, Configure(stage="stage", settings={"times": 3})), b])
    assert [t.text for t in outcome.payloads()] == ["a", "bbb"]


@pytest.mark.parametrize(("epoch", "said"), [(1, "b"), (2, "bb"), (3, "bb")])
def test_a_configure_signal_for_a_sample_that_is_past_is_not_taken(epoch: int, said: str) -> None:
    a, b = words("a", epoch=1)[0], packet(Token(text="b"), time=2 * MS, epoch=2)
    newer = packet(Token(text="b"), time=4 * MS, epoch=2)
    outcome = run_stage(Echo(), [a, b, (3 * MS, Configure(stage="stage", settings={"times": 2}, epoch=epoch)), newer])
    assert [t.text for t in outcome.payloads()] == ["a", "b", said]


class Sampled(Echo):
    """Takes what is for samples to come with the next one."""

    def __init__(self, times: int = 1) -> None:
        super().__init__(times)
        self.epoch, self.next_times = 0, times

    def declare(self, settings: dict[str, Any]) -> None:
        self.next_times = settings["times"]

    def process(self, packet: Packet, ctx: Context) -> None:
        if packet.epoch != self.epoch:
            self.epoch, self.times = packet.epoch, self.next_times
        super().process(packet, ctx)


def test_a_configure_signal_for_no_one_sample_leaves_the_one_under_way_as_it_is() -> None:
    a, b = (packet(Token(text=text), time=time * MS, epoch=1) for time, text in ((0, "a"), (2, "b")))
    newer = packet(Token(text="c"), time=4 * MS, epoch=2)
    outcome = run_stage(Sampled(), [a, (1 * MS, Configure(stage="stage", settings={"times": 3})), b, newer])
    assert [t.text for t in outcome.payloads()] == ["a", "b", "ccc"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"times": 9}, "times: Input should be less than or equal to 3, found 9"),
        ({"mark": "x"}, "mark cannot change while it runs"),
    ],
)
def test_a_setting_that_cannot_be_taken_is_said_and_changes_nothing(settings: dict[str, Any], message: str) -> None:
    outcome = run_stage(Echo(), [(0, Configure(stage="stage", settings=settings)), *words("a")])
    assert message in outcome.problems[0]
    assert [t.text for t in outcome.payloads()] == ["a"]


class Patient:
    """Says so when nothing has come for 50 ms."""

    inputs = {"text": Token}
    outputs = {"text": Token}

    def process(self, packet: Packet, ctx: Context) -> None:
        ctx.wake_at(ctx.now_ns() + 50 * MS)

    def wake(self, ctx: Context) -> None:
        ctx.emit(Token(text="nothing came"))


def test_a_stage_is_woken_once_at_the_time_it_asked_for_last_though_no_packet_comes() -> None:
    outcome = run_stage(Patient(), [*words("a", "b"), packet(Token(text="c"), time=200 * MS)])
    assert [e.at_ns // MS for e in outcome.emitted] == [51]


def test_a_stage_that_is_not_woken_before_its_inputs_end_does_not_hold_up_the_run() -> None:
    assert run_stage(Patient(), words("a")).emitted == []


def test_a_stop_before_a_source_has_taken_its_first_step_ends_it_all_the_same() -> None:
    graph = Graph(name="g")
    graph.add("count", Count(10**9, gap_ns=MS))
    graph.add("keep", Keep())
    graph.connect("count", "keep")
    worker = Worker(graph)

    async def stop_at_once() -> None:
        running = asyncio.ensure_future(worker.run())
        while worker.actors["count"].task is None:  # noqa: ASYNC110  # no event marks that moment
            await asyncio.sleep(0)
        worker.stop()
        async with asyncio.timeout(30):
            await running

    asyncio.run(stop_at_once())
    assert worker.problems == []


class Stubborn:
    """Computes for as long as it is not let go, then emits all the same."""

    inputs = {"text": Token}
    outputs = {"text": Token}
    blocking = True

    def __init__(self) -> None:
        self.began, self.let_go = threading.Event(), threading.Event()

    def process(self, packet: Packet, ctx: Context) -> None:
        self.began.set()
        assert self.let_go.wait(30)
        ctx.emit(Token(text="too late"))


def test_what_a_thread_gives_after_it_was_given_up_on_is_dropped() -> None:
    stage, keep = Stubborn(), Keep()
    graph = Graph(name="g")
    graph.add("count", Count(1))
    graph.add("stage", stage)
    graph.add("keep", keep)
    graph.connect("count", "stage")
    graph.connect("stage", "keep")
    worker = Worker(graph)
    troubles: list[object] = []

    async def give_up() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
        running = asyncio.ensure_future(worker.run())
        await asyncio.to_thread(stage.began.wait, 30)
        thread = worker.actors["stage"].executor
        worker.abandon()
        await running
        while worker.actors["stage"].state is not NodeState.DONE:  # noqa: ASYNC110  # no event marks that moment
            await asyncio.sleep(0)
        stage.let_go.set()
        await asyncio.to_thread(thread.shutdown)
        await asyncio.sleep(0)

    asyncio.run(give_up())
    assert troubles == []
