"""The loop of a worker: which node works next, and how its stage is called.

Theory of operation. A node that may have work is in the ready queue, once. The pump takes nodes from the queue one step
at a time, for about a millisecond, and then returns to the event loop for its sockets and timers:

    plain `process`       called right there: a hop costs a push, a pop and a call, no task and no thread
    async `process`       one task per packet; cancelled when an interrupt makes the packet stale. Also where it only
                          turns out to be async: a plain call that gives something to await
    `blocking` stage      one call on the stage's own thread; the node is busy until it returns
    source                one task for `run`, which the worker starts

An error in a step costs one packet, is reported as a problem of that node, and stops neither other nodes nor the next
packet of this one.

The price of calling plain stages in place is that a slow one delays everything on the loop. Declare `blocking = True`
for it; the report shows which stages need that.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from thalweg.deploy.errors import describe_error
from thalweg.deploy.runtime.actor import Actor, Mover
from thalweg.deploy.runtime.hosting import Hosting
from thalweg.deploy.runtime.lifetime import call
from thalweg.deploy.runtime.tasks import STAGE_ERRORS, StageTasks, is_cancelled
from thalweg.pipeline.joins.join import PacketSet
from thalweg.pipeline.node import Node, NodeState
from thalweg.pipeline.observing.trace import Span
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.stage import StageError

PUMP_NS = 1_000_000
STEP_NS = 100_000


class Pump:
    """Runs the ready nodes. `loop`: the worker's, once it has one; `group`: the tasks of stages, while it runs.

    `over`: stages are being closed, and get no more packets.
    """

    def __init__(self, worker: Hosting) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.group: StageTasks | None = None
        self.over = False
        self._worker = worker
        self._now_ns = worker.clock.now_ns
        self._ready: deque[Actor] = deque()
        self._pumping = False

    def wake(self, node: Node) -> None:
        """`node` may have work. Ignored before `run`, which examines every node itself."""
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
        """Forward what a source emitted. `at_once`: run its consumers now instead of at the next iteration of the loop,
        which saves a paced source's packet a visit to the selector; a fast source is better processed in bulk.
        """
        if self._pumping or not at_once:
            self._pass_on(source, now_ns)
            return
        self._pumping = True
        self._pass_on(source, now_ns)
        self._pump()

    def _pass_on(self, source: Actor, now_ns: int) -> None:
        try:
            source.flush(now_ns, self.wake)
        except Exception as error:
            self._stumbled(source, error)

    def take(self, actor: Node, now_ns: int) -> Packet | None:
        """The next packet for `actor`; a blocked producer may go on."""
        packet = actor.take(now_ns)
        for edge in actor.inputs:
            if edge.producer.outbox:
                self.wake(edge.producer)
        return packet

    def _pump(self) -> None:
        ready = self._ready
        now_ns = self._now_ns
        until_ns = now_ns() + PUMP_NS
        try:
            while ready:
                actor = ready.popleft()
                actor.queued = False
                try:
                    self._step(actor)
                except STAGE_ERRORS as error:
                    self._stumbled(actor, error)
                if now_ns() > until_ns:
                    break
        finally:
            self._pumping = bool(ready)
            if ready and self.loop is not None:
                self.loop.call_soon(self._pump)

    def _stumbled(self, actor: Actor, error: BaseException) -> None:
        """Code other than its stage's `process` has failed for `actor`: its current packet is lost."""
        packet, actor.current = actor.current, None
        self._worker.failed(actor, describe_error(error), packet, error)
        if self._worker.watch is not None:
            self._worker.watch.done(actor)
        self.wake(actor)

    def _step(self, actor: Actor) -> None:
        """Do what `actor` can do now: empty its outbox, take one packet, or end."""
        now_ns = self._now_ns()
        if isinstance(actor, Mover):
            actor.step(now_ns)
            return
        if self.over or actor.state is NodeState.DONE:  # a thread that was given up on has come back with something
            actor.outbox.clear()
            actor.say_room()
            return
        if actor.outbox and not actor.flush(now_ns, self.wake):
            return
        if actor.for_room:
            actor.say_room()
        if actor.busy:
            actor.say_packet()
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
        """The time of the stage's `wake_at` has come; False if its output fills a channel."""
        actor.due = False
        try:
            refuse_awaitable("wake", actor.stage.wake(actor.ctx))
        except STAGE_ERRORS as error:
            self._worker.failed(actor, describe_error(error), None, error)
        return not actor.outbox or actor.flush(self._now_ns(), self.wake)

    def _take(self, actor: Actor, now_ns: int) -> Packet | PacketSet | None:
        """The next packet to process. Without one the actor may have ended."""
        worker = self._worker
        packet: Packet | PacketSet | None
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
        """Process queued packets for a moment: several packets in one step cost less than several steps."""
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
                result = process(packet, ctx)
                if result is not None and inspect.isawaitable(result):
                    actor.turn_async()
                    self._begin(actor, packet, now_ns, result)
                    return
            except STAGE_ERRORS as error:
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
            self._begin(actor, packet, now_ns, None)

    def _begin(self, actor: Actor, packet: Packet | PacketSet, now_ns: int, begun: Awaitable[Any] | None) -> None:
        """Process one packet in a task. `begun`: the awaitable of `process`, if it was called already."""
        actor.busy = True
        started = self._start(actor, self._handle(actor, packet, begun), lambda: self._handled(actor, packet, now_ns))
        if not started and inspect.iscoroutine(begun):
            begun.close()

    def _start(self, actor: Actor, work: Coroutine[Any, Any, None], done: Callable[[], None]) -> bool:
        """Run `work` as the actor's task, unless the worker ends; `done` is called when it is over, however it ends."""
        if self.group is None or self._worker.hurried:
            work.close()
            return False
        try:
            actor.task = self.group.create_task(work, actor.name)
        except RuntimeError:  # the worker is ending, and everything with it
            work.close()
            return False
        actor.task.add_done_callback(lambda _: done())
        return True

    async def _handle(self, actor: Actor, packet: Packet | PacketSet, begun: Awaitable[Any] | None) -> None:
        """One packet of an async or blocking stage."""
        assert actor.process is not None
        try:
            if begun is not None:
                await begun
            elif actor.is_async:
                await actor.process(packet, actor.ctx)
            else:
                await call(actor, actor.process, packet, actor.ctx)
        except STAGE_ERRORS as error:
            self._ended_by(actor, packet, error)

    def _ended_by(self, actor: Actor, packet: Packet | PacketSet | None, error: BaseException) -> None:
        """A stage's task ended by an exception: a failure of the stage, unless the task was told to end."""
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            if not actor.stale and not self._worker.hurried:
                raise error
            return
        self._worker.failed(actor, describe_error(error), packet, error)

    def _handled(self, actor: Actor, packet: Packet | PacketSet, start_ns: int) -> None:
        try:
            self._count(actor, packet, start_ns, self._now_ns())
        except Exception as error:
            self._stumbled(actor, error)
        self._idle(actor)

    def _idle(self, actor: Actor) -> None:
        actor.task = None
        actor.busy = False
        self.wake(actor)
        if self._worker.on_idle is not None:
            self._worker.on_idle()

    def _count(self, actor: Actor, packet: Packet | PacketSet, start_ns: int, end_ns: int) -> None:
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
            if actor.info.blocking:
                await call(actor, actor.stage.finish, actor.ctx)
            else:
                finishing = actor.stage.finish(actor.ctx)
                if inspect.isawaitable(finishing):
                    actor.turn_async()
                    await finishing
        except STAGE_ERRORS as error:
            self._ended_by(actor, None, error)


def refuse_awaitable(hook: str, result: object) -> None:
    """Raises StageError if a hook that must be plain returned an awaitable."""
    if result is not None and inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise StageError(f"`{hook}` is async, but it is called on the event loop and must be plain: nothing was done")
