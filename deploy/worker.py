"""Runs stages: the thin shell of event loop, threads and tasks around the decisions of `pipeline.node`.

Theory of operation. One loop owns every node and channel; nothing of them is touched from another thread. A
node that may have something to do stands in the ready queue, once. The pump takes nodes from it one step at a
time, for about a millisecond, and then lets the loop see to its sockets and timers:

    plain `process`       called right there: a hop costs a push, a pop and a call, no task and no thread
    async `process`       one task per packet; cancelled when an interrupt makes the packet stale
    `blocking` stage      one call on the stage's own thread; the node is busy until it returns
    source                one task for `run`

The price of calling plain stages in place is that a slow one delays everything on the loop. That is what
`blocking = True` is for; the report shows who should have had it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any

from thalweg.deploy.actor import Actor, Mover
from thalweg.deploy.bridge import Inlet, Outlet
from thalweg.deploy.outcome import Problem
from thalweg.deploy.replicas import node_of
from thalweg.deploy.spans import TurnSpans, flush_spans, start_spans
from thalweg.deploy.watch import Watch
from thalweg.pipeline.channel import Channel
from thalweg.pipeline.clock import Clock, SystemClock
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.graph import Connection, Graph, GraphError, nearest
from thalweg.pipeline.join import Joined
from thalweg.pipeline.node import Edge, Node, NodeState
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.plan import LOCAL
from thalweg.pipeline.signal import Configure, Direction, Failure, Interrupt, Signal
from thalweg.pipeline.stage import StageError
from thalweg.pipeline.trace import Mark, Span, Trace
from thalweg.pipeline.turn import TurnRecorder

log = logging.getLogger(__name__)

PUMP_NS = 1_000_000
STEP_NS = 100_000
SETTLE_S = 0.5
KEPT_PROBLEMS = 100


class StartError(ThalwegError):
    """A stage could not be built or opened; nothing was run."""


class Worker:
    """Hosts the stages of a graph and the channels between them, and runs them to the end of their streams.

    `hosted`, `edges`: those of the graph that are here, all where it is not said; edges between two stages that are
    here are always. `replica`: which one of several that host the same stages, from 1; see `pipeline.replicas`.
    `returning`: the edges whose consumer may be started again if its worker is lost; see `deploy.bridge`.
    `returns`: whether this worker may be.
    `run` may be awaited once. It raises GraphError or StartError where nothing could be started; what goes
    wrong later is in `problems`, the first hundred of them, and `problem_count` says how many there were.
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
    ) -> None:
        wrong = graph.problems()
        if wrong:
            raise GraphError("; ".join(wrong))
        self.clock = clock or SystemClock()
        self.trace = trace
        self.turns = TurnRecorder()
        self.name = name
        self.spans: TurnSpans | None = None
        self._pipeline = graph.name
        self.problems: list[Problem] = []
        self.problem_count = 0
        self.on_problem: Callable[[Problem], None] | None = None
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
        self._ready: deque[Actor] = deque()
        self._pumping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._group: asyncio.TaskGroup | None = None
        self._running = 0
        self._opening: asyncio.Future[list[object]] | None = None
        self._opened = False
        self._closed = False
        self._all_done: asyncio.Event | None = None
        self._returning = returning
        self._returns = returns
        self._build(graph, graph.stages if hosted is None else hosted, edges, replica)

    async def run(self) -> None:
        """Open every stage, run until every stream has ended, close them."""
        self._enter()
        self._all_done = asyncio.Event()
        self._running = len(self.actors) + len(self.outlets) + len(self.inlets)
        try:
            if not self._opened:
                await self.open()
            self.started_ns = self.clock.now_ns()
            async with asyncio.TaskGroup() as group:
                self._group = group
                for bridge in (*self.outlets.values(), *self.inlets.values()):
                    bridge.state = NodeState.RUNNING
                    self.wake(bridge)
                for actor in self.actors.values():
                    actor.state = NodeState.RUNNING
                    if actor.info.is_source and (self.stopped or actor.finished):
                        actor.state = NodeState.FINISHING
                    elif actor.info.is_source:
                        actor.task = group.create_task(self._run_source(actor))
                    self.wake(actor)
                if self.hurried:
                    self._all_done.set()
                await self._all_done.wait()
        finally:
            self._group = None
            self.ended_ns = self.clock.now_ns()
            await self._close()
            await self._end_spans()

    def stop(self) -> None:
        """End every source; what is under way is finished, and `run` returns. Idempotent."""
        if self.stopped:
            return
        self.stopped = True
        for actor in self.actors.values():
            if actor.info.is_source and actor.task is not None and self._loop is not None:
                self._loop.call_soon(actor.task.cancel)  # not before its first step, or it never gets to say it ended

    def abandon(self) -> None:
        """Give up what is under way: `run` returns at once. Idempotent."""
        self.stop()
        self.hurried = True
        if self._opening is not None:
            self._opening.cancel()
        for actor in self.actors.values():
            if actor.task is not None:
                actor.task.cancel()
        if self._all_done is not None:
            self._all_done.set()

    def configure(self, stage: str, settings: Mapping[str, object]) -> None:
        """Change settings of a running stage, of those it declares `configurable`; durations as text.

        Raises StageError, and changes nothing, where a setting is unknown, fixed or out of range.
        """
        if stage not in self.actors:
            raise StageError(f"there is no stage {stage!r}{nearest(stage, self.actors)}")
        actor = self.actors[stage]
        fixed = sorted(set(settings) - actor.info.configurable)
        if fixed:
            may = ", ".join(sorted(actor.info.configurable)) or "nothing"
            raise StageError(f"stage {stage}: {', '.join(fixed)} cannot change while it runs; what can: {may}")
        actor.stage.configure(actor.info.check_some(settings))

    def on_loop(self, function: Callable[..., None], *args: Any) -> None:
        """Call `function` on the loop: now, where this is the loop's thread, else as soon as it comes round."""
        if threading.get_ident() == self._thread:
            function(*args)
        elif self._loop is not None:
            self._loop.call_soon_threadsafe(function, *args)

    def link_lost(self, edge: str, reason: str) -> None:
        """A bridge has lost its link; whoever runs this worker may know whether there will be another."""
        self.on_link_lost(edge, reason)

    def link_found(self, edge: str) -> None:
        """A bridge has a link again."""
        self.on_link_found(edge)

    def wake(self, node: Node) -> None:
        """`node` may have something to do. Ignored before `run`, which looks at every node itself."""
        assert isinstance(node, Actor)
        if self._loop is not None and not node.queued:
            node.queued = True
            self._ready.append(node)
            if not self._pumping:
                self._pumping = True
                self._loop.call_soon(self._pump)

    def wake_at_once(self, node: Node) -> None:
        """As `wake`, from a callback of the loop: `node` works now instead of at the loop's next turn."""
        if self._pumping:
            self.wake(node)
            return
        self._pumping = True
        self.wake(node)
        self._pump()

    def send(self, source: Actor, now_ns: int, *, at_once: bool) -> None:
        """Pass on what a source emitted. `at_once`: and let its consumers work now instead of at the next turn of
        the loop, which saves a paced source's packet a visit to the selector; a flood is better taken in bulk.
        """
        if self._pumping or not at_once:
            source.flush(now_ns, self.wake)
            return
        self._pumping = True
        source.flush(now_ns, self.wake)
        self._pump()

    def done(self, actor: Actor) -> None:
        """`actor` has nothing more to do or to give: its output streams end."""
        actor.set_alarm(None)
        for consumer in actor.close_outputs():
            self.wake(consumer)
        self._running -= 1
        if self._running == 0 and self._all_done is not None:
            self._all_done.set()

    def take(self, actor: Node, now_ns: int) -> Packet | None:
        """The next packet for `actor`; its producer, if it was held up, may go on."""
        packet = actor.take(now_ns)
        for edge in actor.inputs:
            if edge.producer.outbox:
                self.wake(edge.producer)
        return packet

    def spread(self, origin: Actor, signal: Signal, direction: Direction) -> None:
        """Take a signal along the edges, past every stage it reaches, once each."""
        if self.trace is not None:
            epoch = getattr(signal, "epoch", AMBIENT)
            self.trace.add(Mark(origin.name, self.clock.now_ns(), type(signal).__name__.lower(), epoch))
        if isinstance(signal, Interrupt):
            self.turns.interrupt(signal.epoch)
            origin.hear(signal)
        if self.spans is not None:
            self.spans.hear(signal)
        reached = {origin}
        edge_of = {Direction.DOWN: (True, False), Direction.UP: (False, True), Direction.BOTH: (True, True)}
        down, up = edge_of[direction]
        for forwards in [way for way, wanted in ((True, down), (False, up)) if wanted]:
            frontier = deque([origin])
            while frontier:
                actor = frontier.popleft()
                outgoing = (edge for port in actor.outputs.values() for edge in port)
                for edge in outgoing if forwards else actor.inputs:
                    if isinstance(signal, Interrupt):
                        edge.channel.raise_epoch(signal.epoch)
                        self.wake(edge.producer)
                        self.wake(edge.consumer)
                    other = edge.consumer if forwards else edge.producer
                    assert isinstance(other, Actor)
                    if other not in reached and other.admits(signal, actor):
                        reached.add(other)
                        frontier.append(other)
                        self._tell(other, signal)

    def failed(self, actor: Actor, message: str, packet: Packet | Joined | None, cause: BaseException | None) -> None:
        """Count a problem and tell everybody downstream that its turn will not end."""
        epoch = AMBIENT if packet is None else packet.epoch
        self.problem_count += 1
        actor.failures += 1
        problem = Problem(stage=actor.name, message=message, epoch=epoch, time_ns=self.clock.now_ns())
        if cause is not None:
            log.debug("stage %s failed", actor.name, exc_info=cause)
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(problem)
            if self.on_problem is not None:
                self.on_problem(problem)
        if epoch != AMBIENT:
            if self.spans is not None:
                self.spans.fail(actor.name, epoch, message)
            self.turns.fail(epoch, f"{actor.name}: {message}")
            self.spread(actor, Failure(origin=actor.name, epoch=epoch, message=message), Direction.DOWN)

    def _build(self, graph: Graph, hosted: Collection[str], edges: Collection[str] | None, replica: int) -> None:
        for vertex in graph.stages.values():
            if vertex.name not in hosted:
                continue
            try:
                stage = vertex.make()
            except Exception as error:
                raise StartError(f"stage {vertex.name}: {describe_error(error)}") from error
            actor = node_of(self, vertex, stage, replica)
            actor.observe = self._observe
            self.actors[vertex.name] = actor
        for connection in graph.connections:
            producer: Actor | None = self.actors.get(connection.source)
            consumer: Actor | None = self.actors.get(connection.target)
            port, out_port = connection.target_port, connection.source_port
            if producer is None and consumer is None:
                continue
            if (producer is None or consumer is None) and edges is not None and connection.name not in edges:
                continue
            if consumer is None:
                consumer = self.outlets[connection.name] = Outlet(self, connection, connection.name in self._returning)
                port = "in"
            elif producer is None:
                carried = graph.stages[connection.source].info.outputs[connection.source_port].type
                producer = self.inlets[connection.name] = Inlet(
                    self, connection, carried, connection.name in self._returning
                )
                out_port = "out"
            assert producer is not None
            self._connect(connection, producer, out_port, consumer, port)
        for actor in self.actors.values():
            if hasattr(actor.stage, "join"):
                actor.join(actor.stage.join)
        self._find_exact()

    def _find_exact(self) -> None:
        """Which stages are given nothing but what would be sent again after a restart: they would do all again."""
        unsure: set[Node] = {inlet for inlet in self.inlets.values() if not inlet.marks}
        unsure |= {actor for actor in self.actors.values() if actor.info.is_source and not actor.gives_snapshots}
        frontier = deque(unsure)
        while frontier:
            node = frontier.popleft()
            after = {edge.consumer for port in node.outputs.values() for edge in port} - unsure
            unsure |= after
            frontier.extend(after)
        for actor in self.actors.values():
            actor.exact = self._returns and actor not in unsure

    def _connect(self, connection: Connection, producer: Actor, out_port: str, consumer: Actor, port: str) -> None:
        edge = Edge(
            name=connection.name,
            channel=Channel(policy=connection.policy, capacity=connection.capacity, max_age_ns=connection.max_age_ns),
            producer=producer,
            consumer=consumer,
            port=port,
            priority=connection.priority,
        )
        producer.outputs[out_port].append(edge)
        consumer.inputs.append(edge)
        self.edges.append(edge)

    def _observe(self, packet: Packet) -> None:
        if packet.epoch != AMBIENT:
            self.turns.observe(packet, self.clock.now_ns())

    async def open(self) -> None:
        """Open every stage; `run` then starts at once. Raises StartError, with everything closed again."""
        self._enter()
        self._opened = True
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise

    def _enter(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
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
        if self.spans is not None and self._loop is not None and not self._closed:
            self.spans.settle(self.clock.now_ns())
            self._loop.call_later(SETTLE_S, self._settle_spans)

    async def _end_spans(self) -> None:
        if self.spans is not None:
            self.spans.close()
            await flush_spans()

    async def _open(self) -> None:
        actors = [actor for actor in self.actors.values() if hasattr(actor.stage, "open")]
        self._opening = asyncio.gather(
            *(self._call(actor, actor.stage.open, actor.ctx) for actor in actors), return_exceptions=True
        )
        try:
            outcomes = await self._opening
        except asyncio.CancelledError:
            if not self.hurried:
                raise
            return
        wrong: list[str] = []
        first: BaseException | None = None
        for actor, outcome in zip(actors, outcomes, strict=True):
            if isinstance(outcome, Exception):
                wrong.append(f"stage {actor.name}: {describe_error(outcome)}")
                first = first or outcome
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                actor.opened = True
        if wrong:
            raise StartError("\n".join(wrong)) from first

    async def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for actor in self.actors.values():
            if hasattr(actor.stage, "close") and (actor.opened or not hasattr(actor.stage, "open")):
                try:
                    async with asyncio.timeout(None if not self.hurried else 1.0):
                        await self._call(actor, actor.stage.close, thread=None)
                except TimeoutError:
                    self.failed(actor, "did not close within 1 s", None, None)
                except Exception as error:
                    self.failed(actor, describe_error(error), None, error)
            actor.shut()

    def hang_up(self) -> None:
        """Close the links. Idempotent. Not part of `run`: other workers may still want what the outlets keep."""
        for bridge in (*self.outlets.values(), *self.inlets.values()):
            bridge.shut()

    async def _call(self, actor: Actor, function: Callable[..., Any], *args: Any, thread: Any = "own") -> Any:
        if inspect.iscoroutinefunction(function):
            return await function(*args)
        executor = actor.executor if thread == "own" else None
        return await asyncio.get_running_loop().run_in_executor(executor, function, *args)

    async def _run_source(self, actor: Actor) -> None:
        try:
            await actor.stage.run(actor.ctx)
        except asyncio.CancelledError:
            if not self.stopped:
                raise
        except Exception as error:
            self.failed(actor, describe_error(error), None, error)
        actor.task = None
        actor.state = NodeState.FINISHING
        actor.busy = False
        self.wake(actor)

    def _pump(self) -> None:
        ready = self._ready
        now_ns = self.clock.now_ns
        until_ns = now_ns() + PUMP_NS
        while ready:
            actor = ready.popleft()
            actor.queued = False
            self._step(actor)
            if now_ns() > until_ns:
                break
        self._pumping = bool(ready)
        if ready and self._loop is not None:
            self._loop.call_soon(self._pump)

    def _step(self, actor: Actor) -> None:
        """Whatever `actor` can do now: empty its outbox, take one packet, or end."""
        now_ns = self.clock.now_ns()
        if isinstance(actor, Mover):
            actor.step(now_ns)
            return
        if actor.state is NodeState.DONE:  # a thread that was given up on has come back with something
            actor.outbox.clear()
            return
        if actor.outbox and not actor.flush(now_ns, self.wake):
            return
        if actor.room is not None:
            if not actor.room.done():
                actor.room.set_result(None)
            actor.room = None
        if actor.busy:
            if actor.arrival is not None and not actor.arrival.done():
                actor.arrival.set_result(None)
            return
        if actor.state is NodeState.FINISHING:
            self.done(actor)
        elif actor.state is NodeState.RUNNING and not actor.info.is_source:
            if actor.due and not self._wake_stage(actor):
                return
            if actor.inline:
                self._work_inline(actor, now_ns)
            else:
                self._work_apart(actor, now_ns)

    def _wake_stage(self, actor: Actor) -> bool:
        """The time has come that the stage asked to be woken at; False if what it emitted fills a channel."""
        actor.due = False
        try:
            actor.stage.wake(actor.ctx)
        except Exception as error:
            self.failed(actor, describe_error(error), None, error)
        return not actor.outbox or actor.flush(self.clock.now_ns(), self.wake)

    def _take(self, actor: Actor, now_ns: int) -> Packet | Joined | None:
        """What to work on next. Without any the actor may be at its end."""
        packet: Packet | Joined | None
        if actor.held is not None:
            return self.watch.release(actor) if self.watch is not None else None
        if actor.joiner is None:
            packet = self.take(actor, now_ns)
        else:
            packet = actor.take_joined(now_ns)
            for edge in actor.inputs:
                if edge.producer.outbox:
                    self.wake(edge.producer)
        if packet is None:
            if actor.ended:
                self._finish(actor)
            return None
        replay = packet.replay
        if replay is None:
            return packet
        assert isinstance(packet, Packet)
        if (actor.name, packet.stream, replay) in self.set_aside:
            self._set_aside(actor, packet)
            return self._take(actor, now_ns)
        return packet if self.watch is None else self.watch.hold(actor, packet)

    def _set_aside(self, actor: Actor, packet: Packet) -> None:
        kind = type(packet.payload).__name__
        message = (
            f"set aside a {kind}, {packet.stream} number {packet.seq}, captured at {packet.time} ns: "
            "it was in hand when the worker died, again and again"
        )
        self.failed(actor, message, packet, None)
        actor.current = None

    def _work_inline(self, actor: Actor, now_ns: int) -> None:
        """Work off what waits, for a moment: several packets at a step cost less than as many steps."""
        until_ns = now_ns + STEP_NS
        process, ctx = actor.process, actor.ctx
        assert process is not None
        while True:
            packet = self._take(actor, now_ns)
            if packet is None:
                return
            if self.spans is not None and packet.epoch != AMBIENT:
                self.spans.begin(actor, packet, now_ns)
            try:
                process(packet, ctx)
            except Exception as error:
                self.failed(actor, describe_error(error), packet, error)
            end_ns = self.clock.now_ns()
            self._count(actor, packet, now_ns, end_ns)
            if actor.outbox and not actor.flush(end_ns, self.wake):
                return
            if end_ns >= until_ns:
                self.wake(actor)
                return
            now_ns = end_ns

    def _work_apart(self, actor: Actor, now_ns: int) -> None:
        packet = self._take(actor, now_ns)
        if packet is not None:
            if self.spans is not None and packet.epoch != AMBIENT:
                self.spans.begin(actor, packet, now_ns)
            actor.busy = True
            self._start(actor, self._handle(actor, packet), lambda: self._handled(actor, packet, now_ns))

    def _start(self, actor: Actor, work: Coroutine[Any, Any, None], done: Callable[[], None]) -> None:
        """Run `work` as the actor's task; `done` is called whatever becomes of it, even if it never began."""
        if self._group is None or self.hurried:
            work.close()
            return
        try:
            actor.task = self._group.create_task(work)
        except RuntimeError:  # the group is being cancelled, and everything with it
            work.close()
            return
        actor.task.add_done_callback(lambda _: done())

    async def _handle(self, actor: Actor, packet: Packet | Joined) -> None:
        """One packet of an async or blocking stage."""
        assert actor.process is not None
        try:
            if actor.is_async:
                await actor.process(packet, actor.ctx)
            else:
                await asyncio.get_running_loop().run_in_executor(actor.executor, actor.process, packet, actor.ctx)
        except asyncio.CancelledError:
            if not actor.stale and not self.hurried:
                raise
        except Exception as error:
            self.failed(actor, describe_error(error), packet, error)

    def _handled(self, actor: Actor, packet: Packet | Joined, start_ns: int) -> None:
        self._count(actor, packet, start_ns, self.clock.now_ns())
        self._idle(actor)

    def _idle(self, actor: Actor) -> None:
        actor.task = None
        actor.busy = False
        if self.on_idle is not None:
            self.on_idle()
        self.wake(actor)

    def _count(self, actor: Actor, packet: Packet | Joined, start_ns: int, end_ns: int) -> None:
        actor.units += 1
        actor.work.record(end_ns - start_ns)
        if self.trace is not None:
            self.trace.add(Span(actor.name, start_ns, end_ns, packet.stream, packet.seq, packet.epoch))
        if self.spans is not None and packet.epoch != AMBIENT:
            self.spans.end(actor, packet.epoch, start_ns, end_ns)
        if self.watch is not None:
            self.watch.done(actor)
        actor.current = None

    def _finish(self, actor: Actor) -> None:
        actor.state = NodeState.FINISHING
        finished, actor.finished = actor.finished, True
        if hasattr(actor.stage, "finish") and not finished:
            actor.busy = True
            self._start(actor, self._let_finish(actor), lambda: self._idle(actor))
        else:
            self.wake(actor)

    async def _let_finish(self, actor: Actor) -> None:
        try:
            if inspect.iscoroutinefunction(actor.stage.finish):
                await actor.stage.finish(actor.ctx)
            elif actor.info.blocking:
                await self._call(actor, actor.stage.finish, actor.ctx)
            else:
                actor.stage.finish(actor.ctx)
        except asyncio.CancelledError:
            if not self.hurried:
                raise
        except Exception as error:
            self.failed(actor, describe_error(error), None, error)

    def _tell(self, actor: Actor, signal: Signal) -> None:
        actor.hear(signal)
        if isinstance(signal, Configure) and signal.stage == actor.name and not actor.is_past(signal.epoch):
            try:
                self.configure(actor.name, signal.settings)
            except Exception as error:
                self.failed(actor, describe_error(error), None, error)
        if actor.task is not None and actor.is_async and actor.stale:
            actor.task.cancel()
        if hasattr(actor.stage, "on_signal"):
            try:
                actor.stage.on_signal(signal, actor.ctx)
            except Exception as error:
                self.failed(actor, describe_error(error), None, error)
            if actor.outbox:
                self.wake(actor)


def describe_error(error: BaseException) -> str:
    """An exception in one line for people: our own speak for themselves, others are named."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) or type(error).__module__.startswith("thalweg."):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
