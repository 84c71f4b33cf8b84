"""Runs stages: the thin shell of event loop, threads and tasks around the decisions of `pipeline.node`.

One event loop owns every node and channel; no other thread accesses them. The parts of a worker:

    building            its nodes, channels and bridges, from a graph
    pump                which node works next, and how its stage is called
    signalling          signals, from stage to stage
    lifetime            opening and closing
    sources             running those that make packets, again where they say so
    problems            what went wrong
    here                beginning and end: running, draining, giving up
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from threading import get_ident
from typing import Any

from thalweg.deploy.errors import Problem, raised_where
from thalweg.deploy.ops.observing.spans import TurnSpans, flush_spans, start_spans
from thalweg.deploy.runtime.actor import Actor, Mover
from thalweg.deploy.runtime.bridge import Inlet, Outlet
from thalweg.deploy.runtime.building import build
from thalweg.deploy.runtime.lifetime import HURRIED_S, close_stages, open_stages
from thalweg.deploy.runtime.problems import Problems
from thalweg.deploy.runtime.pump import Pump, refuse_awaitable
from thalweg.deploy.runtime.signalling import spread
from thalweg.deploy.runtime.sources import run_source
from thalweg.deploy.runtime.tasks import StageTasks
from thalweg.deploy.runtime.watch import Watch
from thalweg.pipeline.clock import Clock, SystemClock
from thalweg.pipeline.errors import ReaderGone, ThalwegError
from thalweg.pipeline.file.plan import LOCAL
from thalweg.pipeline.graph import Graph, GraphError, nearest
from thalweg.pipeline.joins.join import PacketSet
from thalweg.pipeline.node import Edge, NodeState
from thalweg.pipeline.observing.trace import Trace
from thalweg.pipeline.observing.turn import KEPT, TurnRecorder
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.signal import Direction, Failure, Signal
from thalweg.pipeline.stage import StageError
from thalweg.pipeline.text import printable

log = logging.getLogger(__name__)

SETTLE_S = 0.5


class Worker:
    """Hosts the stages of a graph and the channels between them, and runs them to the end of their streams.

    `hosted`, `edges`: the stages and edges of the graph that are here, default all; edges between two stages here are
    always included. `replica`: its number among those that host the same stages, from 1; see
    `pipeline.cluster.replicas`. `returning`: the edges whose consumer may be restarted if its worker is lost; see
    `deploy.runtime.bridge`. `returns`: whether this worker may be. `turns`: how many it remembers. `run` may be awaited
    once. It raises GraphError or StartError if nothing could be started; later errors are in `problems`, the first
    hundred of them, and `problem_count` counts all. Each is also reported to `on_problem`, as `problems.py` describes.
    However it ends, everything that was opened is closed, or abandoned where it does not close in time; after `abandon`
    that takes a second at most.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        hosted: Collection[str] | None = None,
        edges: Collection[str] | None = None,
        clock: Clock | None = None,
        trace: Trace | None = None,
        returning: Collection[str] = (),
        returns: bool = False,
        name: str = LOCAL,
        replica: int = 0,
        turns: int = KEPT,
    ) -> None:
        wrong = graph.problems()
        if wrong:
            raise GraphError("; ".join(wrong))
        self.clock = clock or SystemClock()
        self.trace = trace
        self.turns = TurnRecorder(turns)
        self.name = name
        self.spans: TurnSpans | None = None
        self._pipeline = graph.name
        self.told = Problems(self.clock.now_ns)
        self.on_link_lost: Callable[[str, str], None] = lambda _edge, _reason: None
        self.on_link_found: Callable[[str], object] = lambda _edge: None
        self.on_idle: Callable[[], None] | None = None
        self.watch: Watch | None = None
        self.set_aside: set[tuple[str, str, int]] = set()
        self.hurried = False
        self.stopped = False
        self.started_ns = 0
        self.ended_ns = 0
        self.actors: dict[str, Actor] = {}
        self.edges: list[Edge] = []
        self.outlets: dict[str, Outlet] = {}
        self.inlets: dict[str, Inlet] = {}
        self.thread = 0
        self._running = 0
        self._opening: asyncio.Timeout | None = None
        self._hurry: asyncio.Future[None] | None = None
        self._opened = False
        self._closed = False
        self._closing = asyncio.Lock()
        self._all_done: asyncio.Event | None = None
        self.returning = returning
        self.returns = returns
        self._pump = pump = Pump(self)
        self.wake, self.wake_at_once, self.send, self.take = pump.wake, pump.wake_at_once, pump.send, pump.take
        build(self, graph, graph.stages if hosted is None else hosted, edges, replica)

    async def run(self) -> None:
        """Open every stage, run until every stream has ended, close them."""
        self._enter()
        self._all_done = asyncio.Event()
        self._running = len(self.actors) + len(self.outlets) + len(self.inlets)
        try:
            if not self._opened:
                await self.open()
            self.started_ns = self.clock.now_ns()
            async with StageTasks(self._all_done.set, self._left_behind, HURRIED_S) as group:
                self._pump.group = group
                for bridge in (*self.outlets.values(), *self.inlets.values()):
                    bridge.state = NodeState.RUNNING
                    self.wake(bridge)
                for actor in self.actors.values():
                    actor.state = NodeState.RUNNING
                    if actor.info.is_source and (self.stopped or actor.finished):
                        actor.state = NodeState.FINISHING
                    elif actor.info.is_source:
                        actor.task = group.create_task(run_source(self, actor), actor.name)
                    self.wake(actor)
                if self.hurried:
                    self._all_done.set()
                await self._all_done.wait()
        finally:
            self._pump.group = None
            self._pump.over = True
            self.ended_ns = self.clock.now_ns()
            await self.close()
            await self._end_spans()

    def stop(self) -> None:
        """End every source; queued packets are processed, then `run` returns. Idempotent."""
        if self.stopped:
            return
        self.stopped = True
        for actor in self.actors.values():
            if actor.info.is_source and actor.task is not None and self._pump.loop is not None:
                self._pump.loop.call_soon(
                    actor.task.cancel
                )  # not before its first step, or it never gets to say it ended

    def abandon(self) -> None:
        """Abort: queued packets are dropped, and `run` returns at once. Idempotent."""
        self.stop()
        self.hurried = True
        if self._opening is not None and self._pump.loop is not None and not self._opening.expired():
            self._opening.reschedule(self._pump.loop.time())
        if self._hurry is not None and not self._hurry.done():
            self._hurry.set_result(None)
        if self._pump.group is not None:
            self._pump.group.hurry()
        for actor in self.actors.values():
            if actor.task is not None:
                actor.task.cancel()
        if self._all_done is not None:
            self._all_done.set()

    def configure(self, stage: str, settings: Mapping[str, object], *, lasting: bool = False) -> None:
        """Change settings of a running stage, of those it declares `configurable`; durations as text.

        `lasting`: from the next sample on, if the stage has `declare`. Raises StageError, without a change, if a
        setting is unknown, fixed or out of range.
        """
        if stage not in self.actors:
            raise StageError(f"there is no stage {stage!r}{nearest(stage, self.actors)}")
        actor = self.actors[stage]
        fixed = sorted(set(settings) - actor.info.configurable)
        if fixed:
            may = ", ".join(sorted(actor.info.configurable)) or "nothing"
            raise StageError(f"stage {stage}: {', '.join(fixed)} cannot change while it runs; what can: {may}")
        take = getattr(actor.stage, "declare", actor.stage.configure) if lasting else actor.stage.configure
        refuse_awaitable("configure", take(actor.info.check_some(settings)))

    def on_loop(self, function: Callable[..., None], *args: Any) -> None:
        """Call `function` on the loop: now on the loop's own thread, else as soon as possible.

        From a thread that has outlived the loop it does nothing.
        """
        if get_ident() == self.thread:
            function(*args)
        elif self._pump.loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._pump.loop.call_soon_threadsafe(function, *args)

    def link_lost(self, edge: str, reason: str) -> None:
        """A bridge has lost its link. The owner of this worker is told, and may provide another."""
        self.on_link_lost(edge, reason)

    def link_found(self, edge: str) -> None:
        """A bridge has a link again."""
        self.on_link_found(edge)

    def done(self, actor: Actor) -> None:
        """`actor` has finished: its output streams end."""
        actor.set_alarm(None)
        for consumer in actor.close_outputs():
            self.wake(consumer)
        self._running -= 1
        if self._running == 0 and self._all_done is not None:
            self._all_done.set()

    def spread(self, origin: Actor, signal: Signal, direction: Direction) -> None:
        """Take a signal along the edges, past every stage it reaches, once each; none any more once stages close."""
        if not self._pump.over:
            spread(self, origin, signal, direction)

    def failed(
        self,
        actor: Actor,
        message: str,
        packet: Packet | PacketSet | None,
        cause: BaseException | None,
        *,
        recovered: bool = False,
        final: bool = False,
    ) -> None:
        """Count a problem and signal to all stages downstream that its turn will not end. Never raises.

        `recovered`, `final`: see `Problem`.
        """
        if isinstance(cause, ReaderGone):  # it has seen what it wanted: no problem, and the end
            if self.on_problem is None:
                self.stop()
            else:
                now_ns = self.clock.now_ns()
                self.told.say(Problem(stage=actor.name, message=message, epoch=0, time_ns=now_ns, ends=True))
            return
        message = printable(message)
        epoch = AMBIENT if packet is None else packet.epoch
        actor.failures += 1
        if cause is not None:
            log.debug("stage %s failed", actor.name, exc_info=cause)
        now_ns = self.clock.now_ns()
        self.told.note(
            Problem(
                stage=actor.name,
                message=message,
                epoch=epoch,
                time_ns=now_ns,
                recovered=recovered,
                final=final,
                where=raised_where(cause, actor.stage),
            )
        )
        if epoch != AMBIENT:
            try:
                if self.spans is not None:
                    self.spans.fail(actor.name, epoch, message)
                self.turns.fail(epoch, f"{actor.name}: {message}")
                public = cause.public if isinstance(cause, ThalwegError) else ""
                failure = Failure(origin=actor.name, epoch=epoch, message=message, public=public)
                self.spread(actor, failure, Direction.DOWN)
            except Exception:
                log.exception("could not tell the stages downstream that stage %s failed on turn %d", actor.name, epoch)

    @property
    def problems(self) -> list[Problem]:
        """The first hundred problems."""
        return self.told.kept

    @property
    def problem_count(self) -> int:
        """The number of all problems."""
        return self.told.count

    @property
    def on_problem(self) -> Callable[[Problem], None] | None:
        """Called with problems as they happen; if None, they are logged."""
        return self.told.on_problem

    @on_problem.setter
    def on_problem(self, tell: Callable[[Problem], None] | None) -> None:
        self.told.on_problem = tell

    def observe(self, packet: Packet) -> None:
        """A stage has emitted a packet, on the loop."""
        if packet.epoch != AMBIENT:
            self.turns.observe(packet, self.clock.now_ns())

    def observe_anywhere(self, packet: Packet) -> None:
        """A stage has emitted a packet. May be called from any thread."""
        if packet.epoch != AMBIENT:
            self.on_loop(self.turns.observe, packet, self.clock.now_ns())

    async def open(self) -> None:
        """Open every stage; `run` then starts at once. Raises StartError, with everything closed again."""
        self._enter()
        self._opened = True
        try:
            if not self.hurried:
                async with asyncio.timeout(None) as self._opening:
                    await open_stages(self.actors.values())
        except BaseException as error:
            if isinstance(error, TimeoutError) and self.hurried:
                return  # it was given up: `run` ends at once, and closes what is open
            await self.close()
            raise
        finally:
            self._opening = None

    def _enter(self) -> None:
        self._pump.loop = asyncio.get_running_loop()
        self.thread = get_ident()
        if self.spans is None:
            self._start_spans()

    def _start_spans(self) -> None:
        def tell(stage: str, signal: Signal) -> None:
            self.spread(self.actors[stage], signal, Direction.UP)

        self.spans = start_spans(self.name, self._pipeline, self.clock.now_ns, tell)
        if self.spans is not None:
            for actor in self.actors.values():
                actor.stamp = None if isinstance(actor, Mover) else self.spans.stamp
            self._settle_spans()

    def _settle_spans(self) -> None:
        if self.spans is not None and self._pump.loop is not None and not self._closed:
            self.spans.settle(self.clock.now_ns())
            self._pump.loop.call_later(SETTLE_S, self._settle_spans)

    async def _end_spans(self) -> None:
        if self.spans is not None:
            self.spans.close()
            await flush_spans()

    async def close(self) -> None:
        """Close everything that is open. `run` does so itself; call it where that is never awaited. Idempotent."""
        async with self._closing:
            if self.closed:
                return
            self._closed = True
            self._hurry = asyncio.get_running_loop().create_future()
            if self.hurried:
                self._hurry.set_result(None)
            try:
                await close_stages(self.actors.values(), self._hurry)
            finally:
                for actor in self.actors.values():
                    actor.shut()
                self.told.say_rest()

    @property
    def closed(self) -> bool:
        """Whether nothing is open: it was closed, or never opened anything."""
        return self._closed or not self._opened

    def hang_up(self) -> None:
        """Close the links. Idempotent. Not part of `run`: other workers may still need packets that outlets keep."""
        for bridge in (*self.outlets.values(), *self.inlets.values()):
            bridge.shut()

    def _left_behind(self, name: str) -> None:
        self.failed(self.actors[name], f"did not stop within {HURRIED_S:g} s and is left behind", None, None)
