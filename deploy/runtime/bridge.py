"""The two ends of an edge that leaves its worker, as nodes like the others.

An outlet takes packets from the edge's channel and offers them to a link; while the link has no room the channel fills,
and its policy applies. An inlet takes packets from a link while the consumer's channel has room; others are not
credited, so a `block` edge blocks its producer across machines. Signals pass through both, in their direction.

A broken link does not end the edge. If the worker at the other end returns, both ends get a new link; if not, they are
told to give up. Until then an outlet's channel fills, and its policy applies.

    edge whose consumer may return    the outlet                                 on a new link
    at_least_once                     keeps packets until they are acknowledged  sends them again, in order
    newest                            keeps the times of those packets           reports the gap

If the consumer never restarts, only the link can be lost; packets that it had taken and not delivered are sent by the
new one.

An inlet whose worker may restart marks packets of an at_least_once edge (`Packet.replay`), so that all outputs for them
are numbered. An inlet drops duplicates, recognised by `seq` and by that number. A bridge outlives the run of its
worker, because a peer may still need the packets that it keeps.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any

from thalweg.deploy.runtime.actor import Mover
from thalweg.deploy.runtime.hosting import Hosting
from thalweg.pipeline.cluster.supervision import Delivery
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.graph import Connection
from thalweg.pipeline.node import NodeState
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Numbered, Payload
from thalweg.pipeline.signal import Direction, Interrupt, Signal
from thalweg.pipeline.stage import Context, Port, StageInfo
from thalweg.transports.link import Receiver, Sender

KEPT_AT_MOST = 4096


class _Forward:
    """The stage of a bridge: forwards signals to the other side."""

    def __init__(self) -> None:
        self.link: Sender | Receiver | None = None

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """To the other side."""
        if self.link is not None:
            self.link.signal(signal)


class Outlet(Mover):
    """The end of an edge in the producer's worker. `returns`: the consumer's worker may be restarted."""

    def __init__(self, worker: Hosting, connection: Connection, returns: bool) -> None:
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
        self.linked = False
        self._port = connection.source_port
        self._keeps = returns and connection.delivery is Delivery.AT_LEAST_ONCE
        self._times = deque[int](maxlen=KEPT_AT_MOST) if returns and not self._keeps else None
        self._kept: deque[Packet] = deque()
        self._again: deque[Packet] = deque()
        self._overflowed = False
        self._gap: tuple[int, int, int] | None = None
        self._pending: Packet | None = None
        self._link: Sender | None = None
        self._told_end = False
        self._nowhere = False

    def attach(self, link: Sender) -> None:
        """Use this link from now on, and resend packets that were not acknowledged on the previous one."""
        left: list[Packet] = []
        if self._link is not None:
            if not self._keeps and self._times is None:
                left = [packet for packet in self._link.unreceived() if packet.seq >= link.next_seq]
            self._link.close()
            self._note_gap()
        self._link = self._forward.link = link
        self.linked = True
        self.worker.link_found(self.name)
        self._told_end = False
        self._again = deque(packet for packet in (*self._kept, *left, *self._again) if packet.seq >= link.settled)
        self._kept = deque()
        self.inputs[0].producer.skip_seq(self._port, link.next_seq - 1)
        link.on_room = lambda: self.worker.wake(self)
        link.on_signal = lambda signal: self.worker.spread(self, signal, Direction.UP)
        link.on_ended = self._all_taken
        link.on_acknowledged = self._acknowledged
        link.on_bad = lambda reason: self.worker.failed(self, reason, None, None)
        link.on_lost = lambda reason: self._lost(link, reason)
        if self.floor > AMBIENT:
            link.signal(Interrupt(origin=self.name, epoch=self.floor))
        self.worker.wake(self)

    @property
    def accepts(self) -> bool:
        """See `Actor.accepts`: there is a link, with room."""
        ready = self.linked and self._link is not None and self._link.has_room
        return ready and self._pending is None and not self._again and not self._nowhere

    @property
    def gone(self) -> bool:
        """See `Actor.gone`: the consumer's worker will not come back."""
        return self._nowhere

    def step(self, now_ns: int) -> None:
        """Offer packets as long as the link accepts them."""
        if self.state not in (NodeState.RUNNING, NodeState.DONE):
            return
        if self._nowhere:
            self._discard(now_ns)
            return
        link = self._link
        if link is None or not self.linked:
            return
        while self._again:
            if not self._offer(link, self._again[0]):
                return
            self._again.popleft()
        channel = self.inputs[0].channel
        while True:
            if self._pending is None:
                if not link.has_room and channel.head is not None:
                    return  # what is newest will be another one when there is room
                self._pending = self.worker.take(self, now_ns)
                self.current = None
            if self._pending is None:
                if not self._told_end and self.ended:
                    self._told_end = True
                    link.end()
                elif self.on_ready is not None:
                    self.on_ready()
                return
            if not self._offer(link, self._pending):
                return
            self._pending = None
            self.units += 1

    def give_up(self, reason: str) -> None:
        """The consumer's worker will not come back. Later packets are discarded and counted as drops of the edge; the
        problem states how many were sent and never acknowledged.
        """
        if self.state is NodeState.RUNNING and not self._nowhere:
            unsure = len(self._kept) + len(self._again)
            lost = f"; {unsure} packets sent before were not acknowledged and may be lost" if unsure else ""
            self.worker.failed(self, f"this edge leads nowhere now: {reason}{lost}", None, None)
        self._nowhere = True
        self.worker.link_found(self.name)  # none is looked for any more
        if self._link is not None:
            self._link.close()
        self._kept.clear()
        self._again.clear()
        self.worker.wake(self)

    def state_of_edge(self) -> dict[str, Any]:
        """The packets that the next incarnation of this worker must send."""
        sent = [*self._kept, *self._again, *([self._pending] if self._pending is not None else [])]
        return {"kept": [packet for packet in sent if packet.replay is not None]}

    def restore_edge(self, state: dict[str, Any]) -> None:
        """Go on from `state_of_edge`."""
        self._again = deque(state["kept"])

    def shut(self) -> None:
        """Hang up."""
        if self._link is not None:
            self._link.close()
        super().shut()

    def _offer(self, link: Sender, packet: Packet) -> bool:
        try:
            if not link.offer(packet):
                return False
        except ThalwegError as error:
            self.worker.failed(self, f"a packet could not be sent: {error}", packet, error)
            return True
        if self._gap is not None:
            self._report_gap(packet)
        if self._keeps:
            self._kept.append(packet)
            if len(self._kept) > KEPT_AT_MOST:
                self._kept.popleft()
                if not self._overflowed:
                    self._overflowed = True
                    message = f"more than {KEPT_AT_MOST} packets are not dealt with: the oldest will not be sent again"
                    self.worker.failed(self, message, None, None)
        elif self._times is not None:
            self._times.append(packet.time)
        return True

    def _acknowledged(self, count: int) -> None:
        line = self._kept if self._keeps else self._times
        for _ in range(min(count, len(line or ()))):
            assert line is not None
            line.popleft()

    def _note_gap(self) -> None:
        if self._times:
            drops = sum(self.inputs[0].channel.stats.drops.values())
            self._gap = (len(self._times), self._times[0], drops)
            self._times.clear()

    def _report_gap(self, packet: Packet) -> None:
        assert self._gap is not None
        lost, from_ns, drops_before = self._gap
        self._gap = None
        lost += sum(self.inputs[0].channel.stats.drops.values()) - drops_before
        gap_ms = max(0, packet.time - from_ns) / 1e6
        self.worker.failed(self, f"{lost} packets were lost with the worker, a gap of {gap_ms:.0f} ms", None, None)

    def _discard(self, now_ns: int) -> None:
        if self._pending is not None:
            self._pending = None
            self._write_off(1)
        while self.worker.take(self, now_ns) is not None:
            self._write_off(1)
        self.current = None
        if self.on_ready is not None:
            self.on_ready()
        if self.ended:
            self._all_taken()

    def _write_off(self, count: int) -> None:
        self.inputs[0].channel.write_off(count)

    def _all_taken(self) -> None:
        if self.state is NodeState.RUNNING:
            self.worker.done(self)

    def _lost(self, link: Sender, reason: str) -> None:
        if link is self._link:
            self.linked = False
            self.worker.link_lost(self.name, reason)


class Inlet(Mover):
    """The end of an edge in the consumer's worker. `returns`: this worker may be restarted."""

    def __init__(self, worker: Hosting, connection: Connection, carried: type[Payload], returns: bool) -> None:
        carried = Numbered if connection.numbered else carried
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
        self.marks = returns and connection.delivery is Delivery.AT_LEAST_ONCE
        self._lossy = connection.delivery is Delivery.NEWEST
        self.taken = 0
        self.next_seq = 0
        self.settled = 0
        self._acknowledged = 0
        self._link: Receiver | None = None
        self._left: deque[Packet] = deque()
        self._at_end = False
        self._carried = carried
        self._last_replay = -1
        self._last_ns: int | None = None
        self._replaced = False

    @property
    def link(self) -> Receiver | None:
        """The link in use."""
        return self._link

    def attach(self, link: Receiver) -> None:
        """Use this link from now on; packets of the previous one are taken first."""
        if self._link is not None:
            while (packet := self._link.take()) is not None:
                self._left.append(packet)
            self._link.close()
            self._replaced = True
        self._link = self._forward.link = link
        self.taken = self._acknowledged = 0
        self._at_end = False
        self.worker.link_found(self.name)
        link.on_packet = lambda: self.worker.wake_at_once(self)
        link.on_signal = lambda signal: self.worker.spread(self, signal, Direction.DOWN)
        link.on_end = self._end
        link.on_bad = lambda reason: self.worker.failed(self, reason, None, None)
        link.on_lost = lambda reason: self._lost(link, reason)
        if self.floor > AMBIENT:
            link.signal(Interrupt(origin=self.name, epoch=self.floor))
        self.worker.wake(self)

    def step(self, now_ns: int) -> None:
        """Take packets as long as the consumer's channel has room."""
        link = self._link
        if link is None or self.state is NodeState.IDLE:
            return
        while not self.outbox or self.flush(now_ns, self.worker.wake):
            if self._left:
                packet: Packet | None = self._left.popleft()
            else:
                packet = link.take()
                if packet is not None:
                    self.taken += 1
            if packet is None:
                if self._at_end and self.state is NodeState.RUNNING:
                    self.worker.done(self)
                return
            if self.state is NodeState.RUNNING and not self._known(packet):
                self._enter(packet)

    def acknowledge(self, link: Receiver | None, taken: int, next_seq: int) -> None:
        """The first `taken` packets of `link`, all below `next_seq`, need not be sent again."""
        self.settled = max(self.settled, next_seq)
        if link is not None and link is self._link and taken > self._acknowledged:
            link.acknowledge(taken - self._acknowledged)
            self._acknowledged = taken

    def give_up(self, reason: str) -> None:
        """The producer's worker will not come back: end the stream after the received packets."""
        self.worker.link_found(self.name)  # none is looked for any more
        if self.state is NodeState.RUNNING and not self._at_end:
            self.worker.failed(self, f"nothing more will come by this edge: {reason}", None, None)
            self._end()

    def state_of_edge(self) -> dict[str, Any]:
        """What the next incarnation of this worker must know of received packets."""
        return {"replay": self._last_replay, "next_seq": self.next_seq}

    def restore_edge(self, state: dict[str, Any]) -> None:
        """Go on from `state_of_edge`."""
        self._last_replay = state["replay"]
        self.next_seq = self.settled = state["next_seq"]

    def shut(self) -> None:
        """Hang up."""
        if self._link is not None:
            self._link.close()
        super().shut()

    def _known(self, packet: Packet) -> bool:
        """Whether this packet is a duplicate; otherwise it is recorded."""
        if packet.seq < self.next_seq:
            return True
        if packet.replay is not None:
            if packet.replay <= self._last_replay:
                return True
            self._last_replay = packet.replay
        elif self._replaced and self._last_ns is not None and self._lossy:
            self._replaced = False
            gap_ms = (packet.time - self._last_ns) / 1e6
            self.worker.failed(self, f"a gap of {gap_ms:.0f} ms, while this edge had no link", None, None)
        self._last_ns = packet.time
        self.next_seq = packet.seq + 1
        return False

    def _enter(self, packet: Packet) -> None:
        self.units += 1
        if not isinstance(packet.payload, self._carried):
            found = type(packet.payload).__name__
            self.worker.failed(self, f"a {found} came where {self._carried.__name__} is expected", packet, None)
            return
        if self.marks:
            packet = dataclasses.replace(packet, replay=packet.seq)
        self.forward(packet)

    def _end(self) -> None:
        self._at_end = True
        self.worker.wake(self)

    def _lost(self, link: Receiver, reason: str) -> None:
        if link is self._link:
            self.worker.link_lost(self.name, reason)
