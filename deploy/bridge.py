"""The two ends of an edge that leaves its worker, as nodes among the others.

An outlet takes packets from the edge's channel, as its policy left them, and offers them to a link; while the link
has no room the channel fills, and its policy decides. An inlet takes from a link what the consumer's channel has
room for; what it does not take is not credited, and so a `block` edge holds up its producer on any machine.
Signals pass through both, in their direction. A link that breaks ends the edge at both ends and is a problem of
the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg.deploy.actor import Actor
from thalweg.pipeline.graph import Connection
from thalweg.pipeline.node import NodeState
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Payload
from thalweg.pipeline.signal import Direction, Signal
from thalweg.pipeline.stage import Context, Port, StageInfo
from thalweg.transports.link import Receiver, Sender

if TYPE_CHECKING:
    from thalweg.deploy.worker import Worker


class _Forward:
    """The stage of a bridge: sends on the signals that come past."""

    def __init__(self) -> None:
        self.link: Sender | Receiver | None = None

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """To the other side."""
        if self.link is not None:
            self.link.signal(signal)


class Outlet(Actor):
    """Where an edge leaves its worker."""

    def __init__(self, worker: Worker, connection: Connection) -> None:
        info = StageInfo(
            use="outlet",
            cls=_Forward,
            inputs={"in": Port(Payload)},
            outputs={},
            configurable=frozenset(),
            blocking=False,
        )
        self._forward = _Forward()
        super().__init__(worker, connection.name, self._forward, info, None)
        self._pending: Packet | None = None
        self._link: Sender | None = None
        self._ended = False

    def attach(self, link: Sender) -> None:
        """Use this link from now on."""
        self._link = self._forward.link = link
        link.on_room = lambda: self.worker.wake(self)
        link.on_signal = lambda signal: self.worker.spread(self, signal, Direction.UP)
        link.on_ended = self._all_taken
        link.on_lost = self._lost

    def step(self, now_ns: int) -> None:
        """Offer what there is, as long as the link takes it."""
        link = self._link
        if link is None or self.state is not NodeState.RUNNING:
            return
        while True:
            if self._pending is None:
                self._pending = self.worker.take(self, now_ns)
                self.current = None
            if self._pending is None:
                if not self._ended and self.ended:
                    self._ended = True
                    link.end()
                return
            if not link.offer(self._pending):
                return
            self._pending = None
            self.units += 1

    def shut(self) -> None:
        """Hang up."""
        if self._link is not None:
            self._link.close()
        super().shut()

    def _all_taken(self) -> None:
        if self.state is NodeState.RUNNING:
            self.worker.done(self)

    def _lost(self, reason: str) -> None:
        if self.state is NodeState.RUNNING:
            self.worker.failed(self, f"the connection broke: {reason}", None, None)
            self.worker.done(self)


class Inlet(Actor):
    """Where an edge enters its worker."""

    def __init__(self, worker: Worker, connection: Connection, carried: type[Payload]) -> None:
        info = StageInfo(
            use="inlet",
            cls=_Forward,
            inputs={},
            outputs={"out": Port(carried)},
            configurable=frozenset(),
            blocking=False,
        )
        self._forward = _Forward()
        super().__init__(worker, connection.name, self._forward, info, None)
        self._link: Receiver | None = None
        self._at_end = False
        self._carried = carried

    def attach(self, link: Receiver) -> None:
        """Use this link from now on."""
        self._link = self._forward.link = link
        link.on_packet = lambda: self.worker.wake(self)
        link.on_signal = lambda signal: self.worker.spread(self, signal, Direction.DOWN)
        link.on_end = self._end
        link.on_lost = self._lost

    def step(self, now_ns: int) -> None:
        """Take what there is, as long as the consumer's channel takes it."""
        link = self._link
        if link is None or self.state is not NodeState.RUNNING:
            return
        while not self.outbox or self.flush(now_ns, self.worker.wake):
            packet = link.take()
            if packet is None:
                if self._at_end:
                    self.worker.done(self)
                return
            self.units += 1
            if not isinstance(packet.payload, self._carried):
                found = type(packet.payload).__name__
                self.worker.failed(self, f"a {found} came where {self._carried.__name__} is expected", packet, None)
                continue
            self.forward(packet)

    def shut(self) -> None:
        """Hang up."""
        if self._link is not None:
            self._link.close()
        super().shut()

    def _end(self) -> None:
        self._at_end = True
        self.worker.wake(self)

    def _lost(self, reason: str) -> None:
        if self.state is NodeState.RUNNING and not self._at_end:
            self.worker.failed(self, f"the connection broke: {reason}", None, None)
            self._end()
