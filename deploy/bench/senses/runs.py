"""One run of a task of two modalities: the pipeline, how it is set up, what its encoders cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from thalweg.deploy.commands.recording.rehearsal import Cost, Memory, Rehearsal, rehearse
from thalweg.pipeline.graph import Graph, Vertex
from thalweg.pipeline.payload import Unit
from thalweg.pipeline.stage import describe
from thalweg.stages.senses.decide import DecideSamples, Seen
from thalweg.stages.senses.replay import Replay
from thalweg.stages.senses.units import EncodeUnits

MS = 1_000_000
SHARES = {"s": 0.3, "m": 0.6, "l": 1.0}
RATIOS = (0.2, 0.5, 0.9, 1.2)
LAG_MS = 400
SAMPLES_S = 1_800.0
"""What one system may take over a whole test set, or making one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is decided. `slow`: the modality whose sensor takes longest or lags; `kinds`: class → `easy` or `hard`.

    `budgets_ms`: for the optimizer; none where the slow sensor alone takes longer than any of them.
    """

    name: str
    model: str
    modalities: tuple[str, ...]
    slow: str
    lag_ms: int
    unit_ms: Mapping[str, int]
    choices_ms: Mapping[str, tuple[int, ...]]
    kinds: Mapping[str, str]
    budgets_ms: tuple[int, ...] = ()


@dataclass(slots=True)
class Setup:
    """One system on one case. `gate`: in place of the model's; `sizes`, `units_ms`: of a fixed configuration;
    `predict`: choose after the first units, which go through the smallest encoders.
    """

    blocking: bool = False
    aggregate: bool = True
    skip: bool = False
    checkpoints: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    gate: Callable[[Seen], float] | None = None
    sizes: Mapping[str, str] = field(default_factory=dict)
    units_ms: Mapping[str, int] = field(default_factory=dict)
    choices_ms: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    profile: Path | None = None
    budget_ms: float = 150
    predict: bool = False
    lag_ms: int | None = None


def costs(ratio: float, task: Task, seed: int = 0, factor: Callable[[], float] = lambda: 1.0) -> Cost:
    """What a unit takes on the declared device. `factor`: the load of the moment."""
    rng = np.random.default_rng(seed)

    def cost(modality: str, size: str, unit: Unit) -> int:
        jitter = float(np.exp(rng.normal(0, 0.1)))
        return int(usual_cost_ms(ratio, task, modality, size, unit.values.size) * jitter * factor() * MS)

    return cost


def usual_cost_ms(ratio: float, task: Task, modality: str, size: str, values: int) -> float:
    """What a unit of so many values takes on the declared device, without load and jitter."""
    base_ms = task.unit_ms[modality]
    length = values / (RATE_PER_MS * base_ms) if modality == "audio" else 1.0
    return ratio * base_ms * SHARES[size] * (0.7 + 0.3 * length)


RATE_PER_MS = 16


def graph_of(task: Task, pack: Path, setup: Setup) -> Graph:
    """Sensors, encoders and decision."""
    graph = Graph(name=task.name)

    def add(name: str, cls: type, **arguments: Any) -> None:
        graph.add_vertex(Vertex(name=name, info=describe(cls), make=partial(cls, **arguments)))

    add(
        "decide", DecideSamples, model=task.model, skip=setup.skip, checkpoints=setup.checkpoints,
        threshold=0.5 if setup.gate is not None else None, aggregate=setup.aggregate, patience=20_000 * MS,
        limit=60_000 * MS, profile=setup.profile, budget=int(setup.budget_ms * MS), foreign="warn",
        predict=setup.predict,
    )  # fmt: skip
    for m in task.modalities:
        lag_ms = (task.lag_ms if setup.lag_ms is None else setup.lag_ms) if m == task.slow else 0
        unit_ms = setup.units_ms.get(m, task.unit_ms[m])
        add(
            f"{m}_sensor", Replay, path=pack, modality=m, unit=unit_ms * MS, lag=lag_ms * MS, gap=8000 * MS,
            units=tuple(c * MS for c in setup.choices_ms.get(m, ())),
        )  # fmt: skip
        first = "s" if setup.predict else None
        add(
            f"{m}_encoder", EncodeUnits, model=task.model, modality=m, size=setup.sizes.get(m, "l"),
            first=first, blocking=setup.blocking,
        )  # fmt: skip
        graph.connect(f"{m}_sensor", f"{m}_encoder", capacity=256)
        graph.connect(f"{m}_encoder", "decide", capacity=256)
    return graph


class Watching(Protocol):
    """Something that wants to know how far a run has come."""

    done: Rehearsal | None


def run(
    task: Task, pack: Path, setup: Setup, cost: Cost, memory: Memory, watching: Watching | None = None
) -> Rehearsal:
    """One system over the whole pack."""

    def prepare(done: Rehearsal) -> None:
        if watching is not None:
            watching.done = done
        if setup.gate is not None and done.decide is not None:
            done.decide.gate = setup.gate

    return rehearse(graph_of(task, pack, setup), cost, memory=memory, prepare=prepare)
