"""The loop of a worker: which node works next, and how its stage is called.

Theory of operation. A node that may have something to do stands in the ready queue, once. The pump takes nodes from it
one step at a time, for about a millisecond, and then lets the event loop see to its sockets and timers:

    plain `process`       called right there: a hop costs a push, a pop and a call, no task and no thread
    async `process`       one task per packet; cancelled when an interrupt makes the packet stale
    `blocking` stage      one call on the stage's own thread; the node is busy until it returns
    source                one task for `run`, which the worker starts

The price of calling plain stages in place is that a slow one delays everything on the loop. That is what
`blocking = True` is for; the report shows who should have had it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from thalweg.deploy.errors import describe_error
from thalweg.deploy.runtime.actor import Actor, Mover
from thalweg.pipeline.joins.join import Joined
from thalweg.pipeline.node import Node, NodeState
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.trace import Span

if TYPE_CHECKING:
    from thalweg.deploy.runtime.worker import Worker

PUMP_NS = 1_000_000
STEP_NS = 100_000


class Pump:
    """Works off what is ready. `loop`: the worker's, once it has one; `group`: the tasks of stages, while it runs."""

    def __init__(self, worker: Worker) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.group: asyncio.TaskGroup | None = None
        self._worker = worker
        self._now_ns = worker.clock.now_ns
        self._ready: deque[Actor] = deque()
        self._pumping = False

    def wake(self, node: Node) -> None:
        """`node` may have something to do. Ignored before `run`, which looks at every node itself."""
        assert isinstance(node, Actor)
        if self.loop is not None and not node.queued:
            node.queued = True
            self._ready.append(node)
            if not self._pumping:
                self._pumping = True
                self.loop.call_soon(self._pump)

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

    def take(self, actor: Node, now_ns: int) -> Packet | None:
        """The next packet for `actor`; its producer, if it was held up, may go on."""
        packet = actor.take(now_ns)
        for edge in actor.inputs:
            if edge.producer.outbox:
                self.wake(edge.producer)
        return packet

    def _pump(self) -> None:
        ready = self._ready
        now_ns = self._now_ns
        until_ns = now_ns() + PUMP_NS
        while ready:
            actor = ready.popleft()
            actor.queued = False
            self._step(actor)
            if now_ns() > until_ns:
                break
        self._pumping = bool(ready)
        if ready and self.loop is not None:
            self.loop.call_soon(self._pump)

    def _step(self, actor: Actor) -> None:
        """Whatever `actor` can do now: empty its outbox, take one packet, or end."""
        now_ns = self._now_ns()
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
            self._worker.done(actor)
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
            self._worker.failed(actor, describe_error(error), None, error)
        return not actor.outbox or actor.flush(self._now_ns(), self.wake)

    def _take(self, actor: Actor, now_ns: int) -> Packet | Joined | None:
        """What to work on next. Without any the actor may be at its end."""
        worker = self._worker
        packet: Packet | Joined | None
        if actor.held is not None:
            return worker.watch.release(actor) if worker.watch is not None else None
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
        if (actor.name, packet.stream, replay) in worker.set_aside:
            self._set_aside(actor, packet)
            return self._take(actor, now_ns)
        return packet if worker.watch is None else worker.watch.hold(actor, packet)

    def _set_aside(self, actor: Actor, packet: Packet) -> None:
        kind = type(packet.payload).__name__
        message = (
            f"set aside a {kind}, {packet.stream} number {packet.seq}, captured at {packet.time} ns: "
            "it was in hand when the worker died, again and again"
        )
        self._worker.failed(actor, message, packet, None)
        actor.current = None

    def _work_inline(self, actor: Actor, now_ns: int) -> None:
        """Work off what waits, for a moment: several packets at a step cost less than as many steps."""
        worker = self._worker
        until_ns = now_ns + STEP_NS
        process, ctx = actor.process, actor.ctx
        assert process is not None
        while True:
            packet = self._take(actor, now_ns)
            if packet is None:
                return
            if worker.spans is not None and packet.epoch != AMBIENT:
                worker.spans.begin(actor, packet, now_ns)
            try:
                process(packet, ctx)
            except Exception as error:
                worker.failed(actor, describe_error(error), packet, error)
            end_ns = self._now_ns()
            self._count(actor, packet, now_ns, end_ns)
            if actor.outbox and not actor.flush(end_ns, self.wake):
                return
            if end_ns >= until_ns:
                self.wake(actor)
                return
            now_ns = end_ns

    def _work_apart(self, actor: Actor, now_ns: int) -> None:
        worker = self._worker
        packet = self._take(actor, now_ns)
        if packet is not None:
            if worker.spans is not None and packet.epoch != AMBIENT:
                worker.spans.begin(actor, packet, now_ns)
            actor.busy = True
            self._start(actor, self._handle(actor, packet), lambda: self._handled(actor, packet, now_ns))

    def _start(self, actor: Actor, work: Coroutine[Any, Any, None], done: Callable[[], None]) -> None:
        """Run `work` as the actor's task; `done` is called whatever becomes of it, even if it never began."""
        if self.group is None or self._worker.hurried:
            work.close()
            return
        try:
            actor.task = self.group.create_task(work)
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
            if not actor.stale and not self._worker.hurried:
                raise
        except Exception as error:
            self._worker.failed(actor, describe_error(error), packet, error)

    def _handled(self, actor: Actor, packet: Packet | Joined, start_ns: int) -> None:
        self._count(actor, packet, start_ns, self._now_ns())
        self._idle(actor)

    def _idle(self, actor: Actor) -> None:
        actor.task = None
        actor.busy = False
        if self._worker.on_idle is not None:
            self._worker.on_idle()
        self.wake(actor)

    def _count(self, actor: Actor, packet: Packet | Joined, start_ns: int, end_ns: int) -> None:
        worker = self._worker
        actor.units += 1
        actor.work.record(end_ns - start_ns)
        if worker.trace is not None:
            worker.trace.add(Span(actor.name, start_ns, end_ns, packet.stream, packet.seq, packet.epoch))
        if worker.spans is not None and packet.epoch != AMBIENT:
            worker.spans.end(actor, packet.epoch, start_ns, end_ns)
        if worker.watch is not None:
            worker.watch.done(actor)
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
                await call(actor, actor.stage.finish, actor.ctx)
            else:
                actor.stage.finish(actor.ctx)
        except asyncio.CancelledError:
            if not self._worker.hurried:
                raise
        except Exception as error:
            self._worker.failed(actor, describe_error(error), None, error)


async def call(actor: Actor, function: Callable[..., Any], *args: Any, thread: Any = "own") -> Any:
    """Call a method of a stage: where it is plain on the stage's thread, or, with `thread=None`, on any."""
    if inspect.iscoroutinefunction(function):
        return await function(*args)
    executor = actor.executor if thread == "own" else None
    return await asyncio.get_running_loop().run_in_executor(executor, function, *args)
