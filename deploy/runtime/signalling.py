"""Signals inside a worker: along the edges, past every stage, ahead of every packet."""

from __future__ import annotations

from collections import deque

from thalweg.deploy.errors import describe_error
from thalweg.deploy.runtime.actor import Actor
from thalweg.deploy.runtime.hosting import Hosting
from thalweg.deploy.runtime.pump import refuse_awaitable
from thalweg.deploy.runtime.tasks import STAGE_ERRORS
from thalweg.pipeline.observing.trace import Mark
from thalweg.pipeline.packet import AMBIENT
from thalweg.pipeline.signal import Configure, Direction, Interrupt, Signal


def spread(worker: Hosting, origin: Actor, signal: Signal, direction: Direction) -> None:
    """Take a signal along the edges, past every stage it reaches, once each."""
    if worker.trace is not None:
        epoch = getattr(signal, "epoch", AMBIENT)
        worker.trace.add(Mark(origin.name, worker.clock.now_ns(), type(signal).__name__.lower(), epoch))
    if isinstance(signal, Interrupt):
        worker.turns.interrupt(signal.epoch)
        origin.hear(signal)
    if worker.spans is not None:
        worker.spans.hear(signal)
    reached = {origin}
    edge_of = {Direction.DOWN: (True, False), Direction.UP: (False, True), Direction.BOTH: (True, True)}
    down, up = edge_of[direction]
    for forwards in [way for way, wanted in ((True, down), (False, up)) if wanted]:
        frontier = deque([origin])
        while frontier:
            actor = frontier.popleft()
            outgoing = (edge for port in actor.outputs.values() for edge in port)
            for edge in outgoing if forwards else actor.inputs:
                if isinstance(signal, Interrupt):
                    edge.channel.raise_epoch(signal.epoch)
                    worker.wake(edge.producer)
                    worker.wake(edge.consumer)
                other = edge.consumer if forwards else edge.producer
                assert isinstance(other, Actor)
                if other not in reached and other.admits(signal, actor):
                    reached.add(other)
                    frontier.append(other)
                    _tell(worker, other, signal)


def _tell(worker: Hosting, actor: Actor, signal: Signal) -> None:
    actor.hear(signal)
    if isinstance(signal, Configure) and signal.stage == actor.name and not actor.is_past(signal.epoch):
        try:
            worker.configure(actor.name, signal.settings, lasting=signal.epoch == AMBIENT)
        except STAGE_ERRORS as error:
            worker.failed(actor, describe_error(error), None, error)
    if actor.task is not None and actor.is_async and actor.stale:
        actor.task.cancel()
    if hasattr(actor.stage, "on_signal"):
        try:
            refuse_awaitable("on_signal", actor.stage.on_signal(signal, actor.ctx))
        except STAGE_ERRORS as error:
            worker.failed(actor, describe_error(error), None, error)
        if actor.outbox:
            worker.wake(actor)
