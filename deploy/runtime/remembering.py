"""What the stages of a worker remember of a conversation, for another machine to go on with.

Unlike a checkpoint it knows nothing of packets, clocks and positions: a few plain values of those stages that have
`remembered` and `recall`, valid for the same pipeline on any machine, in any state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypedDict

from thalweg.deploy.errors import describe_error
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.packet import AMBIENT


class Memory(TypedDict):
    """`epoch`: the highest there was; `stages`: stage → what it says, as JSON takes it."""

    epoch: int
    stages: dict[str, Any]


def memory_of(worker: Worker) -> Memory:
    """What is remembered now. On the worker's loop. A stage whose memory is no JSON is left out, and told once."""
    stages: dict[str, Any] = {}
    for actor in worker.actors.values():
        if not actor.remembers:
            continue
        try:
            remembered = actor.stage.remembered()
            json.dumps(remembered)  # which raises where it is none
            stages[actor.name] = remembered
        except Exception as error:  # of the stage, which may raise what it likes
            actor.remembers = False
            message = f"what it remembers goes nowhere: {describe_error(error)}"
            worker.failed(actor, message, None, error)
    return {"epoch": max((actor.highest for actor in worker.actors.values()), default=AMBIENT), "stages": stages}


def recall_memory(worker: Worker, memory: Memory, heard: Mapping[str, Any] | None) -> None:
    """Go on from what another worker remembered: stages that are not here are left out.

    `heard`: how much was heard of the answer under way, {turn, text}. A stage that cannot take its own begins anew,
    which is a problem of it, told as any.
    """
    for actor in worker.actors.values():
        actor.go_on_after(memory["epoch"])
        state = memory["stages"].get(actor.name)
        if state is None or not actor.remembers:
            continue
        try:
            actor.stage.recall(state | {"heard": heard})
        except Exception as error:
            message = f"it cannot go on with what it remembered, and begins anew: {describe_error(error)}"
            worker.failed(actor, message, None, error)
