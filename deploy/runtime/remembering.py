"""What the stages of a worker remember of a conversation, so that another machine can continue it.

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
    """`epoch`: the highest so far; `stages`: stage → its `remembered()`, as JSON."""

    epoch: int
    stages: dict[str, Any]


def memory_of(worker: Worker) -> Memory:
    """The memory now. Call it on the worker's loop. A stage whose memory is not JSON is skipped, and reported once."""
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
    """Continue from the memory of another worker; stages that do not exist here are skipped.

    `heard`: the part of the current answer that was heard, {turn, text}. A stage whose `recall` fails starts without
    memory, and the failure is reported as its problem.
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
