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
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from thalweg.pipeline.channel import Channel
from thalweg.pipeline.clock import Clock, SystemClock
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.graph import Graph, GraphError, nearest
from thalweg.pipeline.join import Joined
from thalweg.pipeline.node import Edge, Node, NodeState
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Payload
from thalweg.pipeline.signal import Configure, Direction, Failure, Interrupt, Signal
from thalweg.pipeline.stage import StageError
from thalweg.pipeline.trace import Mark, Span, Trace
from thalweg.pipeline.turn import TurnRecorder

PUMP_NS = 1_000_000
STEP_NS = 100_000
PACED_NS = 200_000
KEPT_PROBLEMS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that went wrong while the pipeline ran. `cause`: the exception, where there was one."""

    stage: str
    message: str
    epoch: int
    time_ns: int
    cause: BaseException | None = None


class StartError(ThalwegError):
    """A stage could not be built or opened; nothing was run."""


class Actor(Node):
    """A node with the stage that runs in it."""

    def __init__(self, worker: Worker, name: str, stage: Any, info: Any, deadline_ns: int | None) -> None:
        super().__init__(name, info, deadline_ns=deadline_ns)
        self.worker = worker
        self.stage = stage
        self.queued = False
        self.opened = False
        joins = hasattr(info.cls, "join")
        self.process: Callable[..., Any] | None = getattr(stage, "process_joined" if joins else "process", None)
        self.is_async = inspect.iscoroutinefunction(self.process)
        self.inline = not self.is_async and not info.blocking
        self.ctx = StageContext(self)
        self.task: asyncio.Task[None] | None = None
        self.room: asyncio.Future[None] | None = None
        self._executor: ThreadPoolExecutor | None = None
        if not self.inline or info.is_source:
            self.on_emit = self._emitted

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The stage's own thread, made when it is first needed."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix=self.name)
        return self._executor

    def shut(self) -> None:
        """Let go of the thread; what it does now it does to its end."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _emitted(self) -> None:
        self.worker.on_loop(self.worker.wake, self)


class StageContext:
    """What a stage sees of its actor; see `pipeline.stage.Context`."""

    __slots__ = ("_actor", "_sent", "_sent_ns", "now_ns")

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._sent = 0
        self._sent_ns = 0
        self.now_ns = actor.worker.clock.now_ns

    @property
    def name(self) -> str:
        return self._actor.name

    @property
    def port(self) -> str:
        return self._actor.port

    @property
    def stale(self) -> bool:
        return self._actor.stale or self._actor.worker.hurried

    def emit(
        self,
        payload: Payload,
        *,
        port: str | None = None,
        time: int | None = None,
        epoch: int | None = None,
        deadline: int | None = None,
    ) -> None:
        self._actor.emit(payload, port, time, epoch, deadline, self.now_ns())

    async def send(self, payload: Payload, *, port: str | None = None, time: int, epoch: int = AMBIENT) -> None:
        actor = self._actor
        now_ns = self.now_ns()
        actor.emit(payload, port, time, epoch, None, now_ns)
        actor.worker.send(actor, now_ns, at_once=now_ns - self._sent_ns > PACED_NS)
        if actor.outbox:
            actor.room = asyncio.get_running_loop().create_future()
            await actor.room
        self._sent_ns = self.now_ns()
        self._sent += 1
        if self._sent & 15 == 0:  # a source that never waits must still let the others work
            await asyncio.sleep(0)

    async def compute(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._actor.executor, function, *args)

    async def sleep_until(self, time_ns: int) -> None:
        delay_ns = time_ns - self.now_ns()
        await asyncio.sleep(max(0.0, delay_ns / 1e9))

    def signal(self, signal: Signal, direction: Direction = Direction.DOWN) -> None:
        self._actor.worker.on_loop(self._actor.worker.spread, self._actor, signal, direction)

    def new_epoch(self) -> int:
        return self._actor.new_epoch()

    def report(self, problem: str) -> None:
        actor = self._actor
        actor.worker.on_loop(actor.worker.failed, actor, problem, actor.current, None)


class Worker:
    """Hosts the stages of a graph and the channels between them, and runs them to the end of their streams.

    `run` may be awaited once. It raises GraphError or StartError where nothing could be started; what goes
    wrong later is in `problems`, the first hundred of them, and `problem_count` says how many there were.
    """

    def __init__(self, graph: Graph, *, clock: Clock | None = None, trace: Trace | None = None) -> None:
        wrong = graph.problems()
        if wrong:
            raise GraphError("; ".join(wrong))
        self.clock = clock or SystemClock()
        self.trace = trace
        self.turns = TurnRecorder()
        self.problems: list[Problem] = []
        self.problem_count = 0
        self.on_problem: Callable[[Problem], None] | None = None
        self.hurried = False
        self.stopped = False
        self.started_ns = 0
        self.ended_ns = 0
        self.actors: dict[str, Actor] = {}
        self.edges: list[Edge] = []
        self._ready: deque[Actor] = deque()
        self._pumping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._group: asyncio.TaskGroup | None = None
        self._running = 0
        self._all_done: asyncio.Event | None = None
        self._build(graph)

    async def run(self) -> None:
        """Open every stage, run until every stream has ended, close them."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._all_done = asyncio.Event()
        self._running = len(self.actors)
        try:
            await self._open()
            self.started_ns = self.clock.now_ns()
            async with asyncio.TaskGroup() as group:
                self._group = group
                for actor in self.actors.values():
                    actor.state = NodeState.RUNNING
                    if actor.info.is_source:
                        actor.task = group.create_task(self._run_source(actor))
                await self._all_done.wait()
        finally:
            self._group = None
            self.ended_ns = self.clock.now_ns()
            await self._close()

    def stop(self) -> None:
        """End every source; what is under way is finished, and `run` returns. Idempotent."""
        if self.stopped:
            return
        self.stopped = True
        for actor in self.actors.values():
            if actor.info.is_source and actor.task is not None:
                actor.task.cancel()

    def abandon(self) -> None:
        """Give up what is under way: `run` returns at once. Idempotent."""
        self.stop()
        self.hurried = True
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

    def wake(self, node: Node) -> None:
        """`node` may have something to do."""
        assert isinstance(node, Actor)
        if not node.queued:
            node.queued = True
            self._ready.append(node)
            if not self._pumping:
                self._pumping = True
                assert self._loop is not None
                self._loop.call_soon(self._pump)

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

    def spread(self, origin: Actor, signal: Signal, direction: Direction) -> None:
        """Take a signal along the edges, past every stage it reaches, once each."""
        if self.trace is not None:
            epoch = getattr(signal, "epoch", AMBIENT)
            self.trace.add(Mark(origin.name, self.clock.now_ns(), type(signal).__name__.lower(), epoch))
        if isinstance(signal, Interrupt):
            self.turns.interrupt(signal.epoch)
            origin.hear(signal)
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
                    if other not in reached:
                        reached.add(other)
                        frontier.append(other)
                        self._tell(other, signal)

    def failed(self, actor: Actor, message: str, packet: Packet | Joined | None, cause: BaseException | None) -> None:
        """Count a problem and tell everybody downstream that its turn will not end."""
        epoch = AMBIENT if packet is None else packet.epoch
        self.problem_count += 1
        problem = Problem(stage=actor.name, message=message, epoch=epoch, time_ns=self.clock.now_ns(), cause=cause)
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(problem)
            if self.on_problem is not None:
                self.on_problem(problem)
        if epoch != AMBIENT:
            self.turns.fail(epoch, f"{actor.name}: {message}")
            self.spread(actor, Failure(origin=actor.name, epoch=epoch, message=message), Direction.DOWN)

    def _build(self, graph: Graph) -> None:
        for vertex in graph.stages.values():
            try:
                stage = vertex.make()
            except Exception as error:
                raise StartError(f"stage {vertex.name}: {describe_error(error)}") from error
            actor = Actor(self, vertex.name, stage, vertex.info, vertex.deadline_ns)
            actor.observe = self._observe
            self.actors[vertex.name] = actor
        for connection in graph.connections:
            producer, consumer = self.actors[connection.source], self.actors[connection.target]
            edge = Edge(
                name=connection.name,
                channel=Channel(
                    policy=connection.policy, capacity=connection.capacity, max_age_ns=connection.max_age_ns
                ),
                producer=producer,
                consumer=consumer,
                port=connection.target_port,
                priority=connection.priority,
            )
            producer.outputs[connection.source_port].append(edge)
            consumer.inputs.append(edge)
            self.edges.append(edge)
        for actor in self.actors.values():
            if hasattr(actor.stage, "join"):
                actor.join(actor.stage.join)

    def _observe(self, packet: Packet) -> None:
        if packet.epoch != AMBIENT:
            self.turns.observe(packet, self.clock.now_ns())

    async def _open(self) -> None:
        actors = [actor for actor in self.actors.values() if hasattr(actor.stage, "open")]
        outcomes = await asyncio.gather(
            *(self._call(actor, actor.stage.open, actor.ctx) for actor in actors), return_exceptions=True
        )
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
        if actor.outbox and not actor.flush(now_ns, self.wake):
            return
        if actor.room is not None:
            if not actor.room.done():
                actor.room.set_result(None)
            actor.room = None
        if actor.busy:
            return
        if actor.state is NodeState.FINISHING:
            self._done(actor)
        elif actor.state is NodeState.RUNNING and not actor.info.is_source:
            if actor.inline:
                self._work_inline(actor, now_ns)
            else:
                self._work_apart(actor, now_ns)

    def _take(self, actor: Actor, now_ns: int) -> Packet | Joined | None:
        """The next packet; its producer, if it was held up, may go on. Without one the actor may be at its end."""
        packet = actor.take(now_ns) if actor.joiner is None else actor.take_joined(now_ns)
        for edge in actor.inputs:
            if edge.producer.outbox:
                self.wake(edge.producer)
        if packet is None and actor.ended:
            self._finish(actor)
        return packet

    def _work_inline(self, actor: Actor, now_ns: int) -> None:
        """Work off what waits, for a moment: several packets at a step cost less than as many steps."""
        until_ns = now_ns + STEP_NS
        process, ctx = actor.process, actor.ctx
        assert process is not None
        while True:
            packet = self._take(actor, now_ns)
            if packet is None:
                return
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
            actor.busy = True
            self._start(actor, self._handle(actor, packet), lambda: self._handled(actor, packet, now_ns))

    def _start(self, actor: Actor, work: Coroutine[Any, Any, None], done: Callable[[], None]) -> None:
        """Run `work` as the actor's task; `done` is called whatever becomes of it, even if it never began."""
        if self._group is None or self.hurried:
            work.close()
            return
        actor.task = self._group.create_task(work)
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
        self.wake(actor)

    def _count(self, actor: Actor, packet: Packet | Joined, start_ns: int, end_ns: int) -> None:
        actor.units += 1
        actor.work.record(end_ns - start_ns)
        if self.trace is not None:
            self.trace.add(Span(actor.name, start_ns, end_ns, packet.stream, packet.seq, packet.epoch))
        actor.current = None

    def _finish(self, actor: Actor) -> None:
        actor.state = NodeState.FINISHING
        if hasattr(actor.stage, "finish"):
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

    def _done(self, actor: Actor) -> None:
        for consumer in actor.close_outputs():
            self.wake(consumer)
        self._running -= 1
        if self._running == 0 and self._all_done is not None:
            self._all_done.set()

    def _tell(self, actor: Actor, signal: Signal) -> None:
        actor.hear(signal)
        if isinstance(signal, Configure) and signal.stage == actor.name:
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


def describe_error(error: BaseException) -> str:
    """An exception in one line for people: our own speak for themselves, others are named."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) or type(error).__module__.startswith("thalweg."):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
