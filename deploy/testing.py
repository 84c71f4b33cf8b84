"""The test kit: one stage, or a whole graph, under a virtual clock: an hour of timeouts takes no time and is exact.

    emitted = run_stage(Louder(gain=2.0), [packet(AudioChunk(...), time=0)])
    assert emitted[0].payload.samples.max() == 1.0

Theory of operation. An event loop sleeps in one place, in `select`, for as long as its next timer is away.
`VirtualLoop` does not sleep there: it looks at what is ready and moves the clock on instead. As long as a
thread of an executor is at work it waits for real and the clock stands still, so a computation takes no
virtual time. A loop with nothing ready, no timer and no thread can never go on; that is reported instead of
hanging.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Payload
from thalweg.pipeline.signal import Signal
from thalweg.pipeline.stage import Port, describe

T = TypeVar("T")


class DeadlockError(ThalwegError):
    """Every task waits for another one, and no timer would ever wake any."""


class _JumpingSelector(selectors.DefaultSelector):
    """Asks what is ready, without waiting, and moves the clock by the time it was asked to wait."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.clock = clock
        self.threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.threads:
            return super().select(timeout if timeout == 0 else None)
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise DeadlockError("all tasks wait, and no timer is set that would wake one")
        self.clock.advance_to(self.clock.now_ns() + max(1, round(timeout * 1e9)))
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is `clock`'s; `asyncio.sleep` and `asyncio.timeout` are exact and instant."""

    def __init__(self, clock: VirtualClock | None = None) -> None:
        self.clock = clock or VirtualClock()
        self._jumping = _JumpingSelector(self.clock)
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds of the virtual clock."""
        return self.clock.now_ns() / 1e9

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """As asyncio's; the virtual clock stands still until `func` has returned."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """As asyncio's, with its arguments (a `timeout` from Python 3.12 on): wait, in real time, for every thread."""
        self._jumping.threads += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._jumping.threads -= 1

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self._jumping.threads -= 1


def run_virtual(main: Coroutine[Any, Any, T], clock: VirtualClock | None = None) -> T:
    """Run `main` to its end under a virtual clock and return what it returns.

    Raises what `main` raises, and DeadlockError where it would wait indefinitely.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        return runner.run(main)


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """A packet that a stage emitted: on which `port`, and when it arrived at the next stage (`at_ns`)."""

    port: str
    at_ns: int
    packet: Packet

    @property
    def payload(self) -> Payload:
        """The packet's payload."""
        return self.packet.payload


@dataclass(slots=True)
class Outcome:
    """What came of `run_stage`: what was emitted, the signals seen downstream, and what went wrong."""

    emitted: list[Emitted]
    signals: list[Signal]
    problems: list[str]

    def payloads(self, port: str | None = None) -> list[Any]:
        """The payloads in the order they were emitted, of one port or of all; `Any`, since the test knows better."""
        return [e.payload for e in self.emitted if port in (None, e.port)]


def packet(
    payload: Payload, *, time: int = 0, seq: int = 0, epoch: int = AMBIENT, deadline: int | None = None
) -> Packet:
    """A packet to feed a stage with; `time` is also when it arrives."""
    return Packet(stream="test", seq=seq, time=time, payload=payload, epoch=epoch, deadline=deadline)


class Feed:
    """A source that emits given packets or signals, each at its time."""

    outputs: Mapping[str, Port]

    def __init__(self, items: Sequence[Packet | tuple[int, Signal]]) -> None:
        self._items = items

    async def run(self, ctx: Any) -> None:
        """Emit everything."""
        for item in self._items:
            if isinstance(item, Packet):
                await ctx.sleep_until(item.time)
                ctx.emit(item.payload, time=item.time, epoch=item.epoch, deadline=item.deadline)
                await asyncio.sleep(0)
            else:
                await ctx.sleep_until(item[0])
                ctx.signal(item[1])


class Collect:
    """A sink that keeps everything it is given, and the signals that reach it."""

    inputs: Mapping[str, Port]

    def __init__(self) -> None:
        self.emitted: list[Emitted] = []
        self.signals: list[Signal] = []

    def process(self, packet: Packet, ctx: Any) -> None:
        """Keep a packet."""
        self.emitted.append(Emitted(port=ctx.port, at_ns=ctx.now_ns(), packet=packet))

    def on_signal(self, signal: Signal, ctx: Any) -> None:
        """Keep a signal."""
        self.signals.append(signal)


def run_stage(stage: Any, packets: Sequence[Packet | tuple[int, Signal]] | Mapping[str, Sequence[Any]]) -> Outcome:
    """Run one stage under a virtual clock on packets (of its only input, or by port) and collect what it emits.

    An item may also be `(time_ns, signal)`: the signal comes down that input at that time. Packets arrive at
    their capture time; computing takes no virtual time.
    """
    info = describe(type(stage))
    feeds = packets if isinstance(packets, Mapping) else {next(iter(info.inputs), ""): packets}
    graph = Graph(name="test")
    graph.add("stage", stage)
    for port, items in feeds.items():
        if port:
            feed = type("Feed", (Feed,), {"outputs": {"out": info.inputs[port].type}})(items)
            graph.add(f"feed_{port}", feed)
            graph.connect(f"feed_{port}.out", f"stage.{port}")
    ports = {name: Port(port.type, required=False) for name, port in info.outputs.items()}
    sink = type("Collect", (Collect,), {"inputs": ports})()
    if ports:
        graph.add("sink", sink)
    for name in ports:
        graph.connect(f"stage.{name}", f"sink.{name}")
    clock = VirtualClock()
    worker = Worker(graph, clock=clock)
    run_virtual(worker.run(), clock)
    return Outcome(sink.emitted, sink.signals, [f"{p.stage}: {p.message}" for p in worker.problems])
