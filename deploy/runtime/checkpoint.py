"""Checkpoints: the state of a worker between two packets, from which its next incarnation continues.

A checkpoint holds the state of every stage with `snapshot`, the packets queued between stages (only those that would be
sent again), the packets that were sent and not acknowledged, and the last number of each stream. It does not hold the
report, which grows with the run: each checkpoint carries only the changes since the last safe one, and
`KeptCheckpoint` merges them. So the cost of a checkpoint does not depend on how long the worker has run. It is encoded
on the event loop: msgpack holds the interpreter lock throughout, so a thread would block the loop just as long.

A checkpoint can be taken only while no stage is working and every `snapshot()` returns a state: a busy stage returns
None, and is asked again later. Stages without `snapshot` start without state.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from thalweg.deploy.errors import Problem, describe_error
from thalweg.deploy.runtime.actor import Actor
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.node import Edge, NodeState
from thalweg.pipeline.observing.turn import Turn
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.transports.link import Receiver
from thalweg.transports.state import pack_state, unpack_state

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Position:
    """The position on an edge up to which packets can be acknowledged once the checkpoint is safe."""

    edge: str
    link: Receiver | None
    taken: int
    next_seq: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`packed`: the state; `news`: additions to the report, for `KeptCheckpoint`; `positions`: those of the inlets."""

    packed: bytes
    news: bytes
    positions: tuple[Position, ...]


class CheckpointJournal:
    """The additions to a worker's report since the last safe checkpoint."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._turns: dict[int, Turn] = {}
        self._problems = 0
        self._packed = 0
        worker.turns.track()

    def pack(self) -> bytes:
        """It, as of now."""
        turns, told = self._worker.turns, self._worker.told
        self._turns |= {turn.epoch: turn for turn in turns.changed()}
        self._packed = len(told.kept)
        first = max(self._problems, told.restored)
        return pack_state(
            {
                "turns": [_plain_turn(turn) for turn in self._turns.values()],
                "forgotten": turns.forgotten,
                "problems_before": first,
                "problems": [asdict(problem) for problem in told.kept[first:]],
                "problem_count": told.count,
                "recovered": told.recovered,
            }
        )

    def safe(self) -> None:
        """What was packed last need not be packed again."""
        self._turns = {}
        self._problems = self._packed


@dataclass(slots=True)
class KeptCheckpoint:
    """The last checkpoint of a worker with its whole report so far; of turns the newest `capacity`."""

    capacity: int
    state: bytes | None = None
    _turns: dict[int, dict[str, Any]] = field(default_factory=dict)
    _problems: list[dict[str, Any]] = field(default_factory=list)
    _counts: dict[str, int] = field(default_factory=lambda: {"forgotten": 0, "problem_count": 0, "recovered": 0})

    def take(self, packed: bytes, news: bytes) -> None:
        """A new checkpoint. Raises ThalwegError where the news cannot be read."""
        told = unpack_state(news)
        self.state = packed
        self._turns |= {turn["epoch"]: turn for turn in told["turns"]}
        while len(self._turns) > self.capacity:
            del self._turns[next(iter(self._turns))]
        self._problems[told["problems_before"] :] = told["problems"]
        self._counts = {name: told[name] for name in self._counts}

    def packed(self) -> bytes | None:
        """For `restore_checkpoint`; None where there is none."""
        if self.state is None:
            return None
        history = {"turns": list(self._turns.values()), "problems": self._problems, **self._counts}
        return pack_state({"checkpoint": self.state, "history": history})


def take_checkpoint(worker: Worker, journal: CheckpointJournal | None = None) -> Checkpoint | None:
    """The state now, or None if it cannot be taken at this moment. Call it on the worker's loop."""
    if any(actor.busy for actor in worker.actors.values()):
        return None
    actors: dict[str, Any] = {}
    for actor in worker.actors.values():
        state = _actor_state(actor)
        if state is None:
            return None
        actors[actor.name] = state
    tree = {
        "actors": actors,
        "channels": {edge.name: waiting for edge in worker.edges if (waiting := _waiting(edge))},
        "outlets": {name: outlet.state_of_edge() for name, outlet in worker.outlets.items()},
        "inlets": {
            name: inlet.state_of_edge() | {"outbox": _sure(packet for _, packet in inlet.outbox)}
            for name, inlet in worker.inlets.items()
        },
    }
    positions = tuple(Position(name, inlet.link, inlet.taken, inlet.next_seq) for name, inlet in worker.inlets.items())
    return Checkpoint(pack_state(tree), b"" if journal is None else journal.pack(), positions)


def restore_checkpoint(worker: Worker, packed: bytes) -> None:
    """Continue from a checkpoint, as `KeptCheckpoint` packed it. Call it once every stage is open, before `run`.

    Raises ThalwegError.
    """
    kept = unpack_state(packed)
    if "checkpoint" in kept:
        tree, history = unpack_state(kept["checkpoint"]), kept["history"]
    else:  # of a version that kept everything in one
        tree, history = kept, {"forgotten": 0, "recovered": 0, **kept}
    edges = {edge.name: edge for edge in worker.edges}
    for name, state in tree["actors"].items():
        actor = worker.actors[name]
        actor.set_counters(state["counters"])
        actor.finished = state["finished"]
        if "stage" in state:
            try:
                actor.stage.restore(unpack_state(state["stage"]))
            except Exception as error:
                raise ThalwegError(f"stage {name} cannot go on from its snapshot: {describe_error(error)}") from error
        if "join" in state and actor.joiner is not None:
            actor.joiner.restore(state["join"])
        for edge_name, packet in state["outbox"]:
            actor.outbox.append((edges[edge_name], packet))
        for edge in actor.inputs:
            if actor.floor > AMBIENT:
                edge.channel.raise_epoch(actor.floor)
    now_ns = worker.clock.now_ns()
    for name, packets in tree["channels"].items():
        for packet in packets:
            edges[name].channel.push(packet, now_ns)
    for name, state in tree["outlets"].items():
        worker.outlets[name].restore_edge(state)
    for name, state in tree["inlets"].items():
        worker.inlets[name].restore_edge(state)
        for packet in state["outbox"]:
            worker.inlets[name].forward(packet)
    worker.turns.restore((Turn(**turn) for turn in history["turns"]), history["forgotten"])
    worker.told.restore([Problem(**p) for p in history["problems"]], history["problem_count"], history["recovered"])


def _plain_turn(turn: Turn) -> dict[str, Any]:
    return {name: getattr(turn, name) for name in _TURN_FIELDS}


_TURN_FIELDS = [each.name for each in fields(Turn)]


def _actor_state(actor: Actor) -> dict[str, Any] | None:
    state: dict[str, Any] = {
        "counters": actor.counters(),
        "finished": actor.finished or actor.state in (NodeState.FINISHING, NodeState.DONE),
        "outbox": [(edge.name, packet) for edge, packet in actor.outbox if packet.replay is not None],
    }
    if actor.gives_snapshots:
        try:
            snapshot = actor.stage.snapshot()
            if snapshot is None:
                return None
            state["stage"] = pack_state(snapshot)
        except Exception as error:
            actor.gives_snapshots = False
            message = f"it gave no snapshot and would begin anew after a restart: {describe_error(error)}"
            actor.worker.failed(actor, message, None, error)
    if actor.joiner is not None:
        state["join"] = actor.joiner.snapshot()
    return state


def _waiting(edge: Edge) -> list[Packet]:
    waiting = list(edge.channel.waiting)
    assert isinstance(edge.consumer, Actor)
    held = edge.consumer.held_as_queued
    if held is not None and edge.port == edge.consumer.port:
        waiting.insert(0, held)
    return _sure(waiting)


def _sure(packets: Any) -> list[Packet]:
    return [packet for packet in packets if packet.replay is not None]
