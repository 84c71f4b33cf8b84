"""The interface between the parts of a worker, so that they need not import the worker or each other.

`Any` stands for an `Actor`, a bridge, or what contains them: naming those types here would make imports circular.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Executor
from typing import Any, Protocol

from thalweg.pipeline.clock import Clock
from thalweg.pipeline.joins.joined import PacketSet
from thalweg.pipeline.node import Edge
from thalweg.pipeline.observing.trace import Trace
from thalweg.pipeline.observing.turn import TurnRecorder
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.signal import Direction, Signal


class Hosting(Protocol):
    """The worker, as its parts see it; see `Worker`."""

    clock: Clock
    trace: Trace | None
    turns: TurnRecorder
    spans: Any
    watch: Any
    on_idle: Callable[[], None] | None
    set_aside: set[tuple[str, str, int]]
    hurried: bool
    thread: int
    returning: Collection[str]
    returns: bool
    actors: dict[str, Any]
    outlets: dict[str, Any]
    inlets: dict[str, Any]
    edges: list[Edge]

    @property
    def stopped(self) -> bool:
        """See `Worker.stopped`."""
        ...

    @property
    def wake(self) -> Callable[[Any], None]:
        """See `Pump.wake`."""
        ...

    @property
    def wake_at_once(self) -> Callable[[Any], None]:
        """See `Pump.wake_at_once`."""
        ...

    @property
    def send(self) -> Callable[..., None]:
        """See `Pump.send`."""
        ...

    @property
    def take(self) -> Callable[[Any, int], Packet | None]:
        """See `Pump.take`."""
        ...

    def on_loop(self, function: Callable[..., None], *args: Any) -> None:
        """See `Worker.on_loop`."""
        ...

    def done(self, actor: Any) -> None:
        """See `Worker.done`."""
        ...

    def failed(
        self,
        actor: Any,
        message: str,
        packet: Packet | PacketSet | None,
        cause: BaseException | None,
        *,
        recovered: bool = False,
        final: bool = False,
    ) -> None:
        """See `Worker.failed`."""
        ...

    def spread(self, origin: Any, signal: Signal, direction: Direction) -> None:
        """See `Worker.spread`."""
        ...

    def link_lost(self, edge: str, reason: str) -> None:
        """See `Worker.link_lost`."""
        ...

    def link_found(self, edge: str) -> None:
        """See `Worker.link_found`."""
        ...

    def observe(self, packet: Packet) -> None:
        """See `Worker.observe`."""
        ...

    def observe_anywhere(self, packet: Packet) -> None:
        """See `Worker.observe_anywhere`."""
        ...

    def configure(self, stage: str, settings: Any, *, lasting: bool = False) -> None:
        """See `Worker.configure`."""
        ...


class HostedStage(Protocol):
    """An actor, as those see it who open, close and watch it."""

    name: str
    stage: Any
    worker: Hosting
    held: Packet | None
    lifetime: Any
    ctx: Any

    @property
    def executor(self) -> Executor:
        """The stage's own thread."""
        ...
