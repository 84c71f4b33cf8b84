"""The nodes around and in replicas of a stage; `pipeline.cluster.replicas` decides which replica gets a packet.

    node      is                          beside what any node does
    Splitter  before the replicas         takes a packet only when a replica is ready, numbers it, puts a mark behind it
    Replica   the stage itself            takes the number off a packet, puts it on all that the stage makes of it
    Merger    behind the replicas         takes the packets whose turn it is, without their numbers

Signals go through all the replicas and on from a splitter or merger once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from thalweg.deploy.runtime.actor import Actor, Mover
from thalweg.deploy.runtime.hosting import Hosting
from thalweg.pipeline.cluster.replicas import END_INDEX, Dealer, Echoes, Reunion, is_pause, seq_of
from thalweg.pipeline.graph import Role, Vertex
from thalweg.pipeline.node import Edge, Node, NodeState
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Numbered, Payload
from thalweg.pipeline.signal import Signal
from thalweg.pipeline.stage import StageError

PAUSE_NS = 50_000_000
"""Time without a packet after which a splitter sends a pause mark to all replicas."""


def node_of(worker: Hosting, vertex: Vertex, stage: Any, replica: int) -> Actor:
    """The node for a vertex. `replica`: see `Worker`."""
    if vertex.role is Role.SPLIT:
        return Splitter(worker, vertex, stage)
    if vertex.role is Role.MERGE:
        return Merger(worker, vertex, stage)
    if vertex.role is Role.REPLICA and replica:
        return Replica(worker, vertex, stage, replica)
    return Actor(worker, vertex.name, stage, vertex.info, vertex.deadline_ns, vertex.retry_ns)


class Splitter(Mover):
    """Distributes the packets of its input to the replicas at its outputs."""

    def __init__(self, worker: Hosting, vertex: Vertex, stage: Any) -> None:
        super().__init__(worker, vertex.name, stage, vertex.info, None)
        self._key = stage.key
        self._ports = list(vertex.info.outputs)
        self._dealer = Dealer(len(self._ports))
        self._echoes = Echoes()
        self._told = 0
        self._seen = 0
        self._timed = False
        self._heard_of: set[str] = set()

    def step(self, now_ns: int) -> None:
        """Take what can be given to a replica, and give it."""
        if self.state is not NodeState.RUNNING or not self._knows_all:
            return
        if self.due:
            self.due = self._timed = False
            self._pause(now_ns)
        if not self._timed and self._told != self._dealer.index:
            self._timed = True
            self.set_alarm(now_ns + PAUSE_NS)
        while not self.outbox or self.flush(now_ns, self.worker.wake):
            edges = [self.outputs[port][0] for port in self._ports]
            replica = None
            if self._key is None and not self._dealer.repeats:
                replica = self._dealer.ready_one([_is_ready(edge) for edge in edges])
                if replica is None and not all(_is_gone(edge) for edge in edges):
                    self._listen(edges)
                    return
            packet = self.worker.take(self, now_ns)
            self.current = None
            if packet is None:
                if self.ended:
                    self.worker.done(self)
                return
            self._give(packet, replica)

    def skip_seq(self, port: str, last: int) -> None:
        """The replica at `port`, whose link is new, has received packets up to `last`."""
        self._dealer.had(self._ports.index(port), last)
        self._heard_of.add(port)
        if self._dealer.index:
            self._told = 0
            self.worker.wake(self)

    def admits(self, signal: Signal, via: Node) -> bool:
        """See `Actor.admits`: what comes up through all the replicas counts once."""
        ways = [self.outputs[port][0].consumer for port in self._ports]
        return via not in ways or self._echoes.first(signal, via.name)

    def counters(self) -> dict[str, Any]:
        """See `Node.counters`."""
        return super().counters() | {"index": self._dealer.index, "turn": self._dealer.turn}

    def set_counters(self, counters: Mapping[str, Any]) -> None:
        """Go on from there."""
        super().set_counters(counters)
        self._dealer.index, self._dealer.turn = counters["index"], counters["turn"]

    @property
    def _knows_all(self) -> bool:
        """Whether every replica has reported what it received; before that, a replica might drop a packet."""
        if len(self._heard_of) < len(self._ports):
            for port in self._ports:
                consumer = self.outputs[port][0].consumer
                if not isinstance(consumer, Mover) or consumer.gone:
                    self._heard_of.add(port)
        return len(self._heard_of) == len(self._ports)

    def _give(self, packet: Packet, replica: int | None) -> None:
        sure = self.exact or packet.replay is not None
        if not sure:
            self._dealer.renew()
        if self._key is not None:
            try:
                replicas = [self._dealer.of_key(self._key(packet))]
            except Exception as error:
                self.worker.failed(self, f"it has no key: {type(error).__name__}: {error}", packet, error)
                return
        elif self._dealer.repeats:
            replicas = self._dealer.without()
        else:
            replicas = [replica or 0]  # none, where all are gone: it is thrown away there
        index = self._dealer.index
        data = Numbered(index=index, payload=packet.payload, stream=packet.stream, seq=packet.seq)
        for i in replicas:
            edge = self.outputs[self._ports[i]][0]
            self.outbox.append((edge, _numbered(edge, data, packet, sure)))
            self.outbox.append((edge, _mark(edge, Numbered(index=index), packet.time, sure)))
        self._dealer.given(replicas[0])
        self.units += 1

    def _listen(self, edges: list[Edge]) -> None:
        """Have every consumer say when it is ready."""
        for edge in edges:
            assert isinstance(edge.consumer, Actor)
            if edge.consumer.on_ready is None:
                edge.consumer.on_ready = partial(self.worker.wake, self)

    def _pause(self, now_ns: int) -> None:
        """Send a pause mark to all replicas, if no packet was sent since the last check."""
        index = self._dealer.index
        if self._seen != index:
            self._seen = index
            return
        self._told = index
        pause = Numbered(index=index, item=-1)
        for port in self._ports:
            edge = self.outputs[port][0]
            if not len(edge.channel):  # one that has packets waiting will say by them how far it is
                edge.channel.push(_mark(edge, pause, now_ns, False), now_ns)
                self.worker.wake(edge.consumer)


class Replica(Actor):
    """The stage, given packets with numbers. `number`: which of its kind, from 1."""

    def __init__(self, worker: Hosting, vertex: Vertex, stage: Any, number: int) -> None:
        super().__init__(worker, vertex.name, stage, vertex.info, vertex.deadline_ns)
        self._number = number
        self._carried = self._types
        self._types = dict.fromkeys(self._carried, Numbered)
        self._index = -1
        self._items = dict.fromkeys(self._carried, 0)
        self._queued: Packet | None = None

    @property
    def held_as_queued(self) -> Packet | None:
        """See `Actor.held_as_queued`."""
        return None if self.held is None else self._queued

    def take(self, now_ns: int) -> Packet | None:
        """The next packet without its number; None also after a mark, which is passed on."""
        packet = super().take(now_ns)
        if packet is None:
            return None
        numbered = packet.payload
        assert isinstance(numbered, Numbered)
        if numbered.payload is None:
            self.current = None
            self._pass_on(packet, numbered)
            return None
        if numbered.index != self._index:
            self._index = numbered.index
            self._items = dict.fromkeys(self._items, 0)
        self._queued = packet
        taken = self.current = Packet(
            stream=numbered.stream,
            seq=numbered.seq,
            time=packet.time,
            payload=numbered.payload,
            epoch=packet.epoch,
            deadline=packet.deadline,
            trace=packet.trace,
            replay=packet.replay,
        )
        return taken

    def peek(self, port: str | None = None) -> Packet | None:
        """Raises StageError: what one packet is to become must not depend on others."""
        raise StageError(f"stage {self.name} looks ahead, which it cannot with replicas: the next packet is elsewhere")

    def put(
        self,
        payload: Payload,
        port: str | None,
        time: int | None,
        epoch: int | None,
        deadline: int | None,
        now_ns: int,
    ) -> None:
        """As of any node, with the number of the packet in hand."""
        port = self._only if port is None else port
        if port not in self._carried or not isinstance(payload, self._carried[port]):
            raise StageError(self._refusal(payload, port, self._carried))
        if self.current is None and self.state is NodeState.FINISHING and self._index < END_INDEX:
            self._index = END_INDEX + self._number - 1
            self._items = dict.fromkeys(self._items, 0)
        elif self.current is None and self.state is not NodeState.FINISHING:
            raise StageError(
                f"stage {self.name} emitted without a packet in hand: with replicas that has no place in their order"
            )
        item = self._items[port]
        self._items[port] = item + 1
        current = self.current
        assert current is None or isinstance(current, Packet)
        stream, seq = (current.stream, current.seq) if current is not None else ("", 0)
        numbered = Numbered(index=self._index, item=item, payload=payload, stream=stream, seq=seq)
        super().put(numbered, port, time, epoch, deadline, now_ns)

    def _pass_on(self, packet: Packet, mark: Numbered) -> None:
        counted = not is_pause(mark) and (self.exact or packet.replay is not None)
        for port, edges in self.outputs.items():
            seq, self._seq[port] = self._seq[port], self._seq[port] + 1
            replay = None
            if counted:
                replay, self._replays[port] = self._replays[port], self._replays[port] + 1
            stream = self._streams[port]
            passed = Packet(stream=stream, seq=seq, time=packet.time, payload=mark, replay=replay)
            self.outbox.extend((edge, passed) for edge in edges)
        self.worker.wake(self)
        if self.on_ready is not None:
            self.on_ready()


class Merger(Mover):
    """Merges one stream of the replicas in order. Its inputs are the replicas, in their order."""

    def __init__(self, worker: Hosting, vertex: Vertex, stage: Any) -> None:
        super().__init__(worker, vertex.name, stage, vertex.info, None)
        self._streams = dict.fromkeys(vertex.info.outputs, f"{stage.stage}.{stage.port}")
        self._reunion = Reunion()
        self._echoes = Echoes()
        self._heads: list[Packet | None] = [None] * len(vertex.info.inputs)

    def step(self, now_ns: int) -> None:
        """Pass on what is next, as long as there is room for it."""
        while not self.outbox or self.flush(now_ns, self.worker.wake):
            if self.state is not NodeState.RUNNING:
                return
            for i, edge in enumerate(self.inputs):
                if self._heads[i] is None:
                    self._heads[i] = self._pull(edge, now_ns)
            numbers = [None if head is None else _number(head) for head in self._heads]
            chosen = self._reunion.choose(numbers, [edge.channel.closed for edge in self.inputs])
            if chosen is None:
                if self.ended and not any(self._heads):
                    self.worker.done(self)
                return
            packet, self._heads[chosen] = self._heads[chosen], None
            assert packet is not None
            number = _number(packet)
            if self._reunion.take(number) and number.payload is not None:
                self.current = packet
                self.put(number.payload, None, packet.time, packet.epoch, packet.deadline, now_ns)
                self.current = None
                self.units += 1

    def admits(self, signal: Signal, via: Node) -> bool:
        """See `Actor.admits`: what comes down through all the replicas counts once."""
        return all(via is not edge.producer for edge in self.inputs) or self._echoes.first(signal, via.name)

    def counters(self) -> dict[str, Any]:
        """See `Node.counters`."""
        heads = [head if head is not None and head.replay is not None else None for head in self._heads]
        return super().counters() | {"due": self._reunion.due, "item": self._reunion.item, "heads": heads}

    def set_counters(self, counters: Mapping[str, Any]) -> None:
        """Go on from there."""
        super().set_counters(counters)
        self._reunion.due, self._reunion.item = counters["due"], counters["item"]
        self._heads = list(counters["heads"])

    def _pull(self, edge: Edge, now_ns: int) -> Packet | None:
        packet = edge.channel.pop(now_ns)
        if packet is not None:
            edge.age.record(now_ns - packet.time)
            if edge.producer.outbox:
                self.worker.wake(edge.producer)
        return packet


def _number(packet: Packet) -> Numbered:
    assert isinstance(packet.payload, Numbered)
    return packet.payload


def _numbered(edge: Edge, number: Numbered, packet: Packet, sure: bool) -> Packet:
    seq = seq_of(number)
    return Packet(
        stream=edge.name.partition(" -> ")[0],
        seq=seq,
        time=packet.time,
        payload=number,
        epoch=packet.epoch,
        deadline=packet.deadline,
        trace=packet.trace,
        replay=seq if sure else None,
    )


def _mark(edge: Edge, mark: Numbered, time_ns: int, sure: bool) -> Packet:
    """Of no turn and without a deadline, so that nothing drops it."""
    seq = seq_of(mark)
    stream = edge.name.partition(" -> ")[0]
    return Packet(stream=stream, seq=seq, time=time_ns, payload=mark, epoch=AMBIENT, replay=seq if sure else None)


def _is_ready(edge: Edge) -> bool:
    assert isinstance(edge.consumer, Actor)
    return not len(edge.channel) and edge.consumer.accepts


def _is_gone(edge: Edge) -> bool:
    assert isinstance(edge.consumer, Actor)
    return edge.consumer.gone
