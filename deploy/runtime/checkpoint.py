"""The state of a worker between two packets: what another incarnation of it needs to go on.

A checkpoint holds the state of every stage that can give one, the packets that wait between stages (those only that
would be sent again), the packets that were sent and are not acknowledged, how far each stream was numbered, and what
the report will say. It can be taken only while no stage is at work and every `snapshot()` gives a state: a stage that
is in the middle of something returns None, and is asked again later. Stages without `snapshot` begin anew.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

from thalweg.deploy.errors import Problem, describe_error
from thalweg.deploy.runtime.actor import Actor
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.node import Edge, NodeState
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.turn import Turn
from thalweg.transports.link import Receiver
from thalweg.transports.state import pack_state, unpack_state

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Position:
    """How far an edge had been taken: what can be acknowledged once the checkpoint is safe."""

    edge: str
    link: Receiver | None
    taken: int
    next_seq: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`packed` is the state; `positions` are those of the inlets at that moment."""

    packed: bytes
    positions: tuple[Position, ...]


def take_checkpoint(worker: Worker) -> Checkpoint | None:
    """The state now, or None where it cannot be taken at this moment. On the worker's loop."""
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
        "channels": {edge.name: _waiting(edge) for edge in worker.edges if _waiting(edge)},
        "outlets": {name: outlet.state_of_edge() for name, outlet in worker.outlets.items()},
        "inlets": {
            name: inlet.state_of_edge() | {"outbox": _sure(packet for _, packet in inlet.outbox)}
            for name, inlet in worker.inlets.items()
        },
        "turns": [asdict(turn) for turn in worker.turns.turns.values()],
        "problems": [asdict(problem) for problem in worker.problems],
        "problem_count": worker.problem_count,
    }
    positions = tuple(Position(name, inlet.link, inlet.taken, inlet.next_seq) for name, inlet in worker.inlets.items())
    return Checkpoint(pack_state(tree), positions)


def restore_checkpoint(worker: Worker, packed: bytes) -> None:
    """Go on from a checkpoint; to be called once every stage is open, before `run`. Raises ThalwegError."""
    tree = unpack_state(packed)
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
    for turn in tree["turns"]:
        worker.turns.turns[turn["epoch"]] = Turn(**turn)
    worker.problems += [Problem(**problem) for problem in tree["problems"]]
    worker.problem_count += tree["problem_count"]


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
