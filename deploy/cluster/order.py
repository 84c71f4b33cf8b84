"""What a launcher is told of the worker that it is to start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from thalweg.deploy.cluster.host import Bundle
from thalweg.deploy.errors import Problem
from thalweg.pipeline.file.plan import WorkerPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a launcher is told. `log`: the file that the worker's output is added to, where there is one.

    `modules`: of the classes of its stages. `goes_on`: the run was there before, on this worker or on another
    conversation host, so a shared worker takes it although it is full.
    """

    worker: WorkerPlan
    bundle: Bundle
    on_problem: Callable[[Problem], None]
    log: Path | None = None
    modules: tuple[str, ...] = ()
    goes_on: bool = False
