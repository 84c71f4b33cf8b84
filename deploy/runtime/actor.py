"""A node with its stage, and the context that the stage gets."""

from __future__ import annotations

import asyncio
import logging
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock, get_ident
from typing import Any

from thalweg.deploy.errors import describe_error
from thalweg.deploy.runtime.hosting import Hosting
from thalweg.deploy.runtime.lifetime import Lifetime
from thalweg.deploy.runtime.tasks import in_thread
from thalweg.pipeline.cluster.retry import Retry
from thalweg.pipeline.hooks import is_async
from thalweg.pipeline.node import Node, NodeState
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Payload
from thalweg.pipeline.signal import Direction, Signal

log = logging.getLogger(__name__)

PACED_NS = 200_000


class Actor(Node):
    """A node with the stage that runs in it."""

    def __init__(
        self, worker: Hosting, name: str, stage: Any, info: Any, deadline_ns: int | None, retry_ns: int | None = None
    ) -> None:
        super().__init__(name, info, deadline_ns=deadline_ns)
        self.retry = None if retry_ns is None else Retry(retry_ns)
        self.worker = worker
        self.stage = stage
        self.queued = False
        self.failures = 0
        self.lifetime = Lifetime(stage)
        self.finished = False
        self.gives_snapshots = hasattr(stage, "snapshot") and hasattr(stage, "restore")
        self.remembers = hasattr(stage, "remembered") and hasattr(stage, "recall")
        self.held: Packet | None = None
        self.on_ready: Callable[[], None] | None = None
        joins = hasattr(info.cls, "join")
        self.process: Callable[..., Any] | None = getattr(stage, "process_joined" if joins else "process", None)
        self.is_async = is_async(self.process)
        self.inline = not self.is_async and not info.blocking
        self.ctx = StageContext(self)
        self.task: asyncio.Task[None] | None = None
        self.emitting = Lock()  # a stage with a thread or task of its own may emit from several at a time
        self.due = False
        self.for_room: list[asyncio.Future[None]] = []
        self.for_packet: list[asyncio.Future[None]] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._executor: ThreadPoolExecutor | None = None
        if not self.inline or info.is_source or is_async(getattr(stage, "finish", None)):
            self.on_emit = self._emitted

    @property
    def held_as_queued(self) -> Packet | None:
        """The packet that is held back, as it lay in the channel."""
        return self.held

    @property
    def accepts(self) -> bool:
        """Whether it would take another packet once nothing is queued before it. `on_ready` is called when that becomes
        true of a node without a stage.
        """
        return True

    @property
    def gone(self) -> bool:
        """Whether all input is discarded from now on."""
        return False

    def admits(self, signal: Signal, via: Node) -> bool:
        """Whether a signal that comes along the edge to or from `via` is heard, and goes on from here."""
        return True

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The stage's own thread, made when it is first needed."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix=self.name)
        return self._executor

    @property
    def counts(self) -> dict[str, int]:
        """The counters of the stage; empty if it has none or they are not numbers."""
        try:
            return {str(name): _plain(count) for name, count in dict(getattr(self.stage, "counts", {})).items()}
        except Exception:
            log.debug("the counts of stage %s cannot be read", self.name, exc_info=True)
            return {}

    def turn_async(self) -> None:
        """`process` returned an awaitable, although it did not look async."""
        self.is_async, self.inline = True, False
        self.on_emit = self._emitted
        self.observe = self.worker.observe_anywhere

    async def room(self) -> None:
        """Wait until the outbox has been empty. For any number of tasks at a time."""
        if self.state is not NodeState.DONE:
            await _turn(self.for_room)

    async def packet(self) -> None:
        """Wait until something may have come in. For any number of tasks at a time."""
        await _turn(self.for_packet)

    def say_room(self) -> None:
        """The outbox is empty."""
        _let_go(self.for_room)

    def say_packet(self) -> None:
        """Something may have come in."""
        _let_go(self.for_packet)

    def set_alarm(self, time_ns: int | None) -> None:
        """Schedule the stage's `wake` at `time_ns`; replaces an earlier request."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if time_ns is not None and self.state is not NodeState.DONE:
            delay_ns = max(0, time_ns - self.worker.clock.now_ns())
            self._alarm = asyncio.get_running_loop().call_later(delay_ns / 1e9, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.due = True
        self.worker.wake(self)

    def shut(self) -> None:
        """Release the thread; its current call runs to its end."""
        if self._alarm is not None:
            self._alarm.cancel()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _emitted(self) -> None:
        self.worker.on_loop(self.worker.wake, self)


def _plain(count: Any) -> int:  # Any: a number, numpy's perhaps
    return operator.index(count) if hasattr(count, "__index__") else float(count)  # type: ignore[return-value]


async def _turn(waiting: list[asyncio.Future[None]]) -> None:
    waits = asyncio.get_running_loop().create_future()
    waiting.append(waits)
    await waits


def _let_go(waiting: list[asyncio.Future[None]]) -> None:
    for waits in waiting:
        if not waits.done():
            waits.set_result(None)
    waiting.clear()


class Mover(Actor, ABC):
    """A node that moves packets itself, without a stage."""

    @abstractmethod
    def step(self, now_ns: int) -> None:
        """Do what can be done now."""


class StageContext:
    """The context of a stage; see `pipeline.stage.Context`."""

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

    @property
    def lent(self) -> bool:
        return False

    def emit(
        self,
        payload: Payload,
        *,
        port: str | None = None,
        time: int | None = None,
        epoch: int | None = None,
        deadline: int | None = None,
    ) -> None:
        actor = self._actor
        if actor.on_emit is not None:
            with actor.emitting:
                actor.put(payload, port, time, epoch, deadline, self.now_ns())
            actor.on_emit()
        elif get_ident() == actor.worker.thread:
            actor.put(payload, port, time, epoch, deadline, self.now_ns())
        else:  # a thread of the stage's own, while the loop may be working with it
            time = self.now_ns() if time is None else time
            actor.worker.on_loop(self._emit_here, payload, port, time, epoch, deadline)

    def _emit_here(
        self, payload: Payload, port: str | None, time: int, epoch: int | None, deadline: int | None
    ) -> None:
        actor = self._actor
        try:
            actor.put(payload, port, time, epoch, deadline, self.now_ns())
        except Exception as error:
            actor.worker.failed(actor, describe_error(error), None, error)
        actor.worker.wake(actor)

    async def send(self, payload: Payload, *, port: str | None = None, time: int, epoch: int = AMBIENT) -> None:
        actor = self._actor
        now_ns = self.now_ns()
        with actor.emitting:
            actor.put(payload, port, time, epoch, None, now_ns)
        actor.worker.send(actor, now_ns, at_once=now_ns - self._sent_ns > PACED_NS)
        if actor.outbox:
            await actor.room()
        self._sent_ns = self.now_ns()
        self._sent += 1
        if self._sent & 15 == 0:  # a source that never waits must still let the others work
            await asyncio.sleep(0)

    def peek(self, port: str | None = None) -> Packet | None:
        return self._actor.peek(port)

    async def waiting(self) -> Packet:
        actor = self._actor
        while (packet := actor.peek()) is None:
            await actor.packet()
        return packet

    async def compute(self, function: Callable[..., Any], *args: Any) -> Any:
        return await in_thread(self._actor.executor, function, *args)

    async def sleep_until(self, time_ns: int) -> None:
        delay_ns = time_ns - self.now_ns()
        await asyncio.sleep(max(0.0, delay_ns / 1e9))

    def wake_at(self, time_ns: int | None) -> None:
        self._actor.worker.on_loop(self._actor.set_alarm, time_ns)

    def signal(self, signal: Signal, direction: Direction = Direction.DOWN) -> None:
        self._actor.worker.on_loop(self._actor.worker.spread, self._actor, signal, direction)

    def new_epoch(self) -> int:
        return self._actor.new_epoch()

    def report(self, problem: str) -> None:
        actor = self._actor
        actor.worker.on_loop(actor.worker.failed, actor, problem, actor.current, None)
