"""A stage in its graph: which packet is next, where emitted packets go, when the stage is done.

Theory of operation. A node connects the input channels of its stage with the output channels. It has no clock and runs
no code of the stage; a worker asks it what to do and does it.

    state     event                                   next
    IDLE      opened                                  RUNNING
    RUNNING   every input ended and was taken         FINISHING   the worker lets the stage emit what it holds
    RUNNING   the source returned                     FINISHING
    FINISHING finished, nothing left in the outbox    DONE        output channels are closed
    any       failed to open, or was cancelled        DONE

One rule couples a node to its neighbours: what it emits goes into its outbox, and it takes no further packet
before the outbox is empty. A full channel downstream thus blocks its producer and no other node. The outbox is no
second buffer: it holds only the outputs of one packet.

A stage that declares a join receives sets instead of packets: the node feeds its inputs into the join and takes the
sets from it.

Packets emitted for an input that would be sent again after a restart of the worker are numbered (`Packet.replay`), so
that their consumer can detect duplicates. If all inputs are of that kind (`exact`), all emitted packets are numbered.

Among several inputs the next packet comes from the edge of the most urgent priority class, and within a class
the one with the oldest capture time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, IntEnum
from typing import Any

from thalweg.pipeline.channel import Channel, Push
from thalweg.pipeline.joins.join import Join, JoinSpec, PacketSet
from thalweg.pipeline.observing.histogram import Histogram
from thalweg.pipeline.packet import AMBIENT, Packet, make_packet
from thalweg.pipeline.payload import Payload
from thalweg.pipeline.signal import Interrupt, Signal
from thalweg.pipeline.stage import StageError, StageInfo, only_port


class Priority(IntEnum):
    """Which of several waiting packets is taken first; lower is more urgent."""

    AUDIO = 0
    CONTROL = 1
    VIDEO = 2


class NodeState(Enum):
    """See the table above."""

    IDLE = "idle"
    RUNNING = "running"
    FINISHING = "finishing"
    DONE = "done"


TRANSITIONS: Mapping[NodeState, frozenset[NodeState]] = {
    NodeState.IDLE: frozenset({NodeState.RUNNING, NodeState.DONE}),
    NodeState.RUNNING: frozenset({NodeState.FINISHING, NodeState.DONE}),
    NodeState.FINISHING: frozenset({NodeState.DONE}),
    NodeState.DONE: frozenset(),
}
"""The table above as data: state → possible next states, without itself."""


class Edge:
    """A channel with its two ends, and a histogram of the age of packets when taken."""

    __slots__ = ("age", "channel", "consumer", "name", "port", "priority", "producer")

    def __init__(
        self, *, name: str, channel: Channel, producer: Node, consumer: Node, port: str, priority: Priority
    ) -> None:
        self.name = name
        self.channel = channel
        self.producer = producer
        self.consumer = consumer
        self.port = port
        self.priority = priority
        self.age = Histogram()


class Node:
    """One stage, its inputs, its outputs and its outbox."""

    def __init__(self, name: str, info: StageInfo, *, deadline_ns: int | None = None) -> None:
        self.name = name
        self.info = info
        self.deadline_ns = deadline_ns
        self.state = NodeState.IDLE
        self.busy = False
        self.inputs: list[Edge] = []
        self.outputs: dict[str, list[Edge]] = {port: [] for port in info.outputs}
        self.outbox: deque[tuple[Edge, Packet]] = deque()
        self.on_emit: Callable[[], None] | None = None
        self.observe: Callable[[Packet], None] | None = None
        self.stamp: Callable[[Node, int, str | None, int], str | None] | None = None
        self.work = Histogram()
        self.units = 0
        self.current: Packet | PacketSet | None = None
        self.joiner: Join | None = None
        self.port = ""
        self._floor = AMBIENT
        self._seen = AMBIENT  # the highest epoch received: written by the node's owner
        self._made = AMBIENT  # the highest epoch emitted: written by the stage's thread or task
        self._streams = {port: f"{name}.{port}" for port in info.outputs}
        self._seq = dict.fromkeys(info.outputs, 0)
        self._replays = dict.fromkeys(info.outputs, 0)
        self.exact = False
        self._types = {port: declared.type for port, declared in info.outputs.items()}
        self._only = only_port(info.outputs)

    def join(self, declared: JoinSpec) -> None:
        """Set up the join for `take_joined`. Call it once all inputs are connected."""
        self.joiner = declared.start(list(dict.fromkeys(edge.port for edge in self.inputs)))

    def take_joined(self, now_ns: int) -> PacketSet | None:
        """The next set to process, or None."""
        assert self.joiner is not None
        while True:
            joined = self.joiner.pop()
            if joined is not None:
                self.current = joined
                return joined
            packet = self.take(now_ns)
            if packet is not None:
                self.joiner.push(self.port, packet)
                continue
            self.current = None
            open_ports = {edge.port for edge in self.inputs if not edge.channel.closed}
            closing = [port for port in self.joiner.open_ports if port not in open_ports]
            for port in closing:
                self.joiner.close(port)
            if not closing:
                return None

    def take(self, now_ns: int) -> Packet | None:
        """The next packet to process, or None; `port` is then its input port."""
        inputs = self.inputs
        edge = inputs[0] if len(inputs) == 1 else self._most_urgent()
        while edge is not None:
            packet = edge.channel.pop(now_ns)
            if packet is not None:
                edge.age.record(now_ns - packet.time)
                self.current = packet
                self.port = edge.port
                if packet.epoch > self._seen:
                    self._seen = packet.epoch
                return packet
            edge = None if len(inputs) == 1 else self._most_urgent()
        return None

    def peek(self, port: str | None = None) -> Packet | None:
        """The packet that `take` would return, or the next at `port`; stale packets are skipped."""
        heads = (
            next((p for p in edge.channel.waiting if p.epoch == AMBIENT or p.epoch >= self._floor), None)
            for edge in self.inputs
            if port is None or edge.port == port
        )
        return min((head for head in heads if head is not None), key=lambda packet: packet.time, default=None)

    @property
    def ended(self) -> bool:
        """Whether every input has ended and all its packets were taken."""
        for edge in self.inputs:  # once per packet: a generator costs three times as much  # noqa: SIM110
            if not edge.channel.closed:
                return False
        return True

    @property
    def stale(self) -> bool:
        """Whether the current packet was overtaken by an interrupt."""
        packet = self.current
        return packet is not None and packet.epoch != AMBIENT and packet.epoch < self._floor

    def put(
        self,
        payload: Payload,
        port: str | None,
        time: int | None,
        epoch: int | None,
        deadline: int | None,
        now_ns: int,
    ) -> None:
        """Put a payload into the outbox, for every edge of the port. Raises StageError and PayloadError without any
        effect; see `Context.emit`.
        """
        if port is None:
            port = self._only
        if port not in self._types or not isinstance(payload, self._types[port]):
            raise StageError(self._refusal(payload, port, self._types))
        cause = self.current
        if time is None:
            time = cause.time if cause is not None else now_ns
        if epoch is None:
            epoch = cause.epoch if cause is not None else AMBIENT
        if deadline is None:
            if self.deadline_ns is not None:
                deadline = time + self.deadline_ns
            elif cause is not None:
                deadline = cause.deadline
        seq = self._seq[port]
        replay = None
        if self.exact or (cause is not None and cause.replay is not None):
            replay = self._replays[port]
        trace = None if cause is None else cause.trace
        if self.stamp is not None:
            trace = self.stamp(self, epoch, trace if cause is not None and cause.epoch == epoch else None, time)
        packet = make_packet(self._streams[port], seq, time, payload, epoch, deadline, trace, replay)
        self._seq[port] = seq + 1
        if replay is not None:
            self._replays[port] = replay + 1
        if packet.epoch > self._made:
            self._made = packet.epoch
        if self.observe is not None:
            self.observe(packet)
        for edge in self.outputs[port]:
            self.outbox.append((edge, packet))

    def _refusal(self, payload: Payload, port: str | None, types: Mapping[str, type[Payload]]) -> str:
        if port is None or port not in types:
            found = "no port" if port is None else f"port {port!r}"
            return f"stage {self.name} emitted on {found}; it has: {', '.join(types) or 'none'}"
        found, carried = type(payload).__name__, types[port].__name__
        return f"stage {self.name} emitted a {found} on port {port}, which carries {carried}"

    def forward(self, packet: Packet) -> None:
        """Put a packet of another node into the outbox unchanged, for every output edge."""
        if packet.epoch > self._seen:
            self._seen = packet.epoch
        for edges in self.outputs.values():
            for edge in edges:
                self.outbox.append((edge, packet))

    def flush(self, now_ns: int, woken: Callable[[Node], None]) -> bool:
        """Move the outbox into the channels; calls `woken` with each consumer of a new packet. False if one is full.

        A packet for which the channel raises is removed from the outbox before the exception propagates.
        """
        outbox = self.outbox
        while outbox:
            edge, packet = outbox[0]
            try:
                outcome = edge.channel.push(packet, now_ns)
            except Exception:
                outbox.popleft()
                raise
            if outcome is Push.FULL:
                return False
            outbox.popleft()
            if outcome is Push.QUEUED:
                woken(edge.consumer)
        return True

    def new_epoch(self) -> int:
        """One above the highest epoch seen here, by packet or by signal."""
        self._made = self.highest + 1
        return self._made

    def hear(self, signal: Signal) -> None:
        """Record a signal that passes through."""
        if isinstance(signal, Interrupt):
            self._floor = max(self._floor, signal.epoch)
            self._seen = max(self._seen, signal.epoch)
            if self.joiner is not None:
                self.joiner.raise_epoch(signal.epoch)

    def counters(self) -> dict[str, Any]:
        """The counters from which a restarted node must continue, as plain values; see `set_counters`."""
        return {
            "seq": dict(self._seq),
            "replays": dict(self._replays),
            "floor": self._floor,
            "highest": self.highest,
            "units": self.units,
        }

    def set_counters(self, counters: Mapping[str, Any]) -> None:
        """Continue from the values of `counters`."""
        self._seq.update(counters["seq"])
        self._replays.update(counters["replays"])
        self._floor = max(self._floor, counters["floor"])
        self._seen = max(self._seen, counters["highest"])
        self.units = counters["units"]

    def is_past(self, epoch: int) -> bool:
        """Whether a newer epoch than `epoch` was taken or emitted here; always False for AMBIENT."""
        return AMBIENT < epoch < self.highest

    def skip_seq(self, port: str, last: int) -> None:
        """Number packets of `port` above `last` from now on."""
        self._seq[port] = max(self._seq[port], last + 1)

    @property
    def highest(self) -> int:
        """The highest epoch received or emitted here."""
        return max(self._seen, self._made)

    def go_on_after(self, epoch: int) -> None:
        """Make new epochs above `epoch` from now on."""
        self._seen = max(self._seen, epoch)

    @property
    def floor(self) -> int:
        """The lowest epoch that is not stale here."""
        return self._floor

    def close_outputs(self) -> Iterable[Node]:
        """End every output stream. Returns the consumers, which may be done now."""
        self.state = NodeState.DONE
        edges = [edge for port in self.outputs.values() for edge in port]
        for edge in edges:
            edge.channel.close()
        return [edge.consumer for edge in edges]

    def _most_urgent(self) -> Edge | None:
        best: Edge | None = None
        best_key = (0, 0)
        for edge in self.inputs:
            head = edge.channel.head
            if head is not None:
                key = (int(edge.priority), head.time)
                if best is None or key < best_key:
                    best, best_key = edge, key
        return best
