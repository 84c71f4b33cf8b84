"""What was opened is closed, whoever gives up in between; and what does not close keeps nobody from ending."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from thalweg.deploy.errors import StartError
from thalweg.deploy.runtime import lifetime
from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import run_virtual
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.signal import Direction, Flush, Signal
from thalweg.pipeline.stage import Context


class Camera:
    """A source that is open at once, or after `slow` lets it."""

    outputs = {"text": Token}

    def __init__(self, slow: threading.Event | None = None) -> None:
        self.slow = slow
        self.opening = threading.Event()
        self.opened = self.closed = 0

    def open(self, ctx: Context) -> None:
        self.opening.set()
        if self.slow is not None:
            assert self.slow.wait(20)
        self.opened += 1

    def close(self) -> None:
        self.closed += 1

    async def run(self, ctx: Context) -> None:
        pass


class Model:
    """A sink that takes five seconds to open."""

    inputs = {"text": Token}
    opened = closed = 0

    async def open(self, ctx: Context) -> None:
        await asyncio.sleep(5)
        self.opened += 1

    def close(self) -> None:
        self.closed += 1

    def process(self, packet: Packet, ctx: Context) -> None:
        pass


class Broken(Model):
    """One that cannot be opened."""

    async def open(self, ctx: Context) -> None:
        await asyncio.sleep(1)
        raise OSError("no such model")


class Stubborn(Model):
    """One whose opening does not heed that nobody wants it any more."""

    async def open(self, ctx: Context) -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        self.opened += 1


def worker_of(camera: Any, model: Any, clock: VirtualClock | None = None) -> Worker:
    graph = Graph()
    graph.add("camera", camera)
    graph.add("model", model)
    graph.connect("camera", "model")
    return Worker(graph, clock=clock)


@pytest.mark.parametrize("how", ["abandon", "cancel"])
@pytest.mark.parametrize("model", [Model, Stubborn])
@pytest.mark.parametrize("call", ["run", "open"])
def test_what_is_open_when_a_run_ends_in_opening_is_closed(how: str, model: type[Model], call: str) -> None:
    camera, slow, clock = Camera(), model(), VirtualClock()
    worker = worker_of(camera, slow, clock)

    async def main() -> None:
        opening = asyncio.get_running_loop().create_task(getattr(worker, call)())
        await asyncio.sleep(0.3)
        (worker.abandon if how == "abandon" else opening.cancel)()
        await asyncio.wait({opening})
        assert opening.cancelled() is (how == "cancel")
        await worker.close()
        await asyncio.sleep(3)

    run_virtual(main(), clock)
    assert (camera.opened, camera.closed) == (1, 1)
    assert slow.opened == slow.closed


def test_what_is_open_when_another_stage_cannot_be_is_closed() -> None:
    camera, broken = Camera(), Broken()
    with pytest.raises(StartError, match="stage model: no such model"):
        run_virtual(worker_of(camera, broken).run())
    assert (camera.closed, broken.closed) == (1, 0)


def test_what_a_thread_opens_after_the_run_was_given_up_is_closed_there() -> None:
    let_go, model = threading.Event(), Model()
    camera = Camera(slow=let_go)
    worker = worker_of(camera, model)

    async def main() -> None:
        running = asyncio.get_running_loop().create_task(worker.run())
        await asyncio.to_thread(camera.opening.wait, 20)
        worker.abandon()
        await running
        assert camera.closed == 0
        let_go.set()
        await asyncio.to_thread(_until, lambda: camera.closed)

    asyncio.run(main())
    assert (camera.opened, camera.closed) == (1, 1)


def test_a_run_that_is_cancelled_while_it_closes_closes_the_rest() -> None:
    camera, model, clock = Camera(), SlowToClose(), VirtualClock()
    worker = worker_of(camera, model, clock)

    async def main() -> None:
        running = asyncio.get_running_loop().create_task(worker.run())
        await asyncio.sleep(0.3)
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()

    run_virtual(main(), clock)
    assert (camera.closed, model.closed) == (1, 1)


class SlowToClose(Model):
    """Takes half a second."""

    async def open(self, ctx: Context) -> None:
        pass

    async def close(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0.5)
        self.closed += 1


class NeverCloses(Model):
    """A close that hangs until it is let go."""

    async def open(self, ctx: Context) -> None:
        pass

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.closing = threading.Event()

    def close(self) -> None:
        self.closing.set()
        self.let_go.wait(20)


def test_a_close_that_hangs_ends_a_second_after_the_run_was_given_up_and_is_named() -> None:
    camera, model = Camera(), NeverCloses()
    worker = worker_of(camera, model)

    async def main() -> float:
        running = asyncio.get_running_loop().create_task(worker.run())
        await asyncio.to_thread(model.closing.wait, 20)
        began_s = time.monotonic()
        worker.abandon()
        await running
        return time.monotonic() - began_s

    try:
        took_s = asyncio.run(main())
    finally:
        model.let_go.set()
    assert lifetime.HURRIED_S <= took_s < lifetime.HURRIED_S + 10
    assert camera.closed == 1
    assert [(p.stage, p.message) for p in worker.problems] == [("model", "did not close within 1 s and is left behind")]


class Unending(Model):
    """An async close that never ends."""

    async def open(self, ctx: Context) -> None:
        pass

    async def close(self) -> None:  # type: ignore[override]
        await asyncio.Event().wait()


def test_nobody_waits_for_ever_for_a_close_though_nobody_gave_up() -> None:
    clock = VirtualClock()
    worker = worker_of(Camera(), Unending(), clock)
    run_virtual(worker.run(), clock)
    assert worker.problems[0].message == "did not close within 60 s and is left behind"


class Deaf(Camera):
    """A source that does not heed that it was told to end."""

    async def run(self, ctx: Context) -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if ctx.now_ns() > 10_000_000_000:
                    raise


def test_a_source_that_ignores_its_end_is_left_behind_and_named() -> None:
    clock = VirtualClock()
    worker = worker_of(Deaf(), SlowToClose(), clock)

    async def main() -> None:
        running = asyncio.get_running_loop().create_task(worker.run())
        await asyncio.sleep(1)
        worker.stop()
        await asyncio.sleep(1)
        worker.abandon()
        await running
        assert clock.now_ns() < 4_000_000_000
        await asyncio.sleep(60)  # where the loop ends it is cancelled once more

    run_virtual(main(), clock)
    assert [p.message for p in worker.problems] == ["did not stop within 1 s and is left behind"]


def _until(condition: Any) -> None:
    until_s = time.monotonic() + 20
    while not condition() and time.monotonic() < until_s:
        time.sleep(0.001)


class Flood:
    """A source without a pause."""

    outputs = {"text": Token}

    async def run(self, ctx: Context) -> None:
        while True:
            await ctx.send(Token(text="x"), time=ctx.now_ns())


class Closing:
    """A sink that takes its time, over a packet and to close; counts what it is given once it closes."""

    inputs = {"text": Token}

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.is_closing = False
        self.late = 0

    async def close(self) -> None:
        self.is_closing = True
        await asyncio.sleep(0.1)

    def process(self, packet: Packet, ctx: Context) -> None:
        self.late += self.is_closing
        time.sleep(0.005)
        assert self.worker is not None
        self.worker.abandon()

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        self.late += self.is_closing


def test_a_stage_that_closes_is_given_nothing_any_more() -> None:
    graph, sink = Graph(name="late"), Closing()
    graph.add("flood", Flood())
    graph.add("sink", sink)
    graph.connect("flood", "sink", capacity=64)
    worker = sink.worker = Worker(graph)

    async def scenario() -> None:
        running = asyncio.create_task(worker.run())
        while not sink.is_closing:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        worker.spread(worker.actors["flood"], Flush(origin="flood"), Direction.DOWN)
        await running

    asyncio.run(scenario())
    assert sink.late == 0
    assert worker.problem_count == 0
