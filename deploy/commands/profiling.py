"""`thalweg profile FILE`: what every combination of a pipeline's knobs costs and is worth on this device.

Two measurements make the table. What a unit costs in each encoder is measured for real, alone and beside busy processes
(the declared load levels); its distribution is kept. Then every combination is rehearsed on the recorded samples
under the virtual clock, with costs drawn from those distributions, at each slow-down: that gives latency quantiles with
queues and waiting, and accuracy from real decisions. Samples have their combination from the first unit on. Rehearsing
instead of running takes minutes instead of hours and is exact about queues; what it leaves out is the scheduler's own
noise beyond what units already show.
"""

from __future__ import annotations

import datetime
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.commands.recording.rehearsal import Memory, Rehearsal, RehearsalError, rehearse, restrict
from thalweg.deploy.ops.observing.report import write_whole
from thalweg.models.store.fingerprint import fingerprint
from thalweg.pipeline.file.spec import Spec
from thalweg.pipeline.payload import Unit
from thalweg.pipeline.senses.configuring import Kind, Knob, Profile, Row, unit_key
from thalweg.pipeline.signal import by_stage
from thalweg.pipeline.stage import describe
from thalweg.stages.senses.replay import Replay
from thalweg.stages.senses.units import EncodeUnits

QUANTILE = 0.95
SLOW_DOWNS = (1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0, 4.0)
"""Close together, because latency rises steeply where units begin to queue, and the optimizer goes straight between."""

SLOWED_SAMPLES = 16

Costs = dict[tuple[str, str, int], NDArray[np.int64]]
"""(modality, size, values in a unit) → how long units took, ns."""


@dataclass(slots=True)
class Measured:
    """What units cost: alone, and by how much that grew beside busy processes."""

    alone: Costs = field(default_factory=dict)
    loads: dict[int, float] = field(default_factory=dict)

    def draw(self, seed: int, slow_down: float = 1.0) -> Callable[[str, str, Unit], int]:
        """A cost per unit, at random from what was measured."""
        rng = np.random.default_rng(seed)
        lengths: dict[tuple[str, str], list[int]] = {}
        for modality, size, values in self.alone:
            lengths.setdefault((modality, size), []).append(values)

        def cost(modality: str, size: str, unit: Unit) -> int:
            nearest = min(lengths[modality, size], key=lambda values: abs(values - unit.values.size))
            return int(rng.choice(self.alone[modality, size, nearest]) * slow_down)

        return cost


def knobs_of(spec: Spec) -> list[Knob]:
    """Every knob of every stage that has more than one value to choose from, in the file's order."""
    found = []
    for vertex in spec.graph.stages.values():
        if vertex.info.knobs:
            stage = vertex.make()
            for parameter, values in stage.choices().items():
                if len(values) > 1:
                    kind = vertex.info.knobs[parameter]
                    found.append(
                        Knob(f"{vertex.name}.{parameter}", kind, tuple(values), getattr(stage, "modality", ""))
                    )
    return found


def measure_units(spec: Spec, loads: tuple[int, ...], repeats: int) -> Measured:
    """Time every size of every encoder on units of the recording, of every length that may be chosen.

    Alone, and beside `loads` busy processes each.
    """
    units: dict[tuple[str, int], list[Unit]] = {}

    def collect(modality: str, size: str, unit: Unit) -> int:
        units.setdefault((modality, unit.values.size), []).append(unit)
        return 0

    knobs = [knob for knob in knobs_of(spec) if knob.kind is Kind.UNIT_LENGTH]
    stages: dict[str, EncodeUnits] = {}
    for i in range(max((len(knob.values) for knob in knobs), default=1)):
        lengths = {knob.name: knob.values[i % len(knob.values)] for knob in knobs}
        done = rehearse(spec.graph, collect, prepare=partial(hold, 4, lengths))
        stages = done.encoders
    measured = Measured()
    levels: dict[int, Costs] = {}
    for load in sorted({0, *loads}):
        with _busy(load):
            levels[load] = {
                (modality, size, values): _time(stage, size, some, repeats)
                for stage in stages.values()
                for (modality, values), some in units.items()
                if modality == stage.modality
                for size in stage.choices()["size"]
            }
    measured.alone = levels[0]
    for load, costs in levels.items():
        ratios = [float(np.median(costs[key]) / np.median(measured.alone[key])) for key in costs]
        measured.loads[load] = median(ratios)
    return measured


def profile(
    spec: Spec,
    *,
    loads: tuple[int, ...] = (0,),
    samples: int = 34,
    repeats: int = 200,
    cost: Callable[[float], Callable[[str, str, Unit], int]] | None = None,
    unit_ms: dict[str, float] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Profile, Measured | None]:
    """The table of a pipeline file. Raises RehearsalError where there is nothing to choose.

    `cost` and `unit_ms` stand in for measuring, for a device that is declared: slow-down → cost of a unit.
    """
    knobs = knobs_of(spec)
    if not knobs:
        raise RehearsalError(f"{spec.graph.name} has no knobs: no stage says what about it may be chosen")
    measured = None
    if cost is None:
        measured = measure_units(spec, loads, repeats)
        cost = lambda slow_down: measured.draw(0, slow_down)  # noqa: E731
        unit_ms = {unit_key(*which): float(np.median(took)) / 1e6 for which, took in measured.alone.items()}
        for busy, factor in measured.loads.items():
            say(f"beside {busy} busy processes a unit takes {factor:.2f} times as long")
    memory: Memory = {}
    rows = []
    combinations = list(product(*(knob.values for knob in knobs)))
    for i, values in enumerate(combinations):
        settings = dict(zip((knob.name for knob in knobs), values, strict=True))
        latencies = []
        accuracy = 0.0
        for slow_down in SLOW_DOWNS:
            few = samples if slow_down == SLOW_DOWNS[0] else min(samples, SLOWED_SAMPLES)
            done = rehearse(
                spec.graph,
                cost(slow_down),
                memory=memory,
                prepare=partial(hold, few, settings),
            )
            latencies.append(float(np.quantile(done.latencies_ms, QUANTILE)))
            if slow_down == SLOW_DOWNS[0]:
                accuracy = done.accuracy
        rows.append(Row(settings, accuracy, tuple(latencies)))
        if i % 20 == 0:
            say(f"{i + 1} of {len(combinations)} combinations")
    made = Profile(
        pipeline=spec.graph.name,
        made=datetime.date.today().isoformat(),
        fingerprint=fingerprint(),
        knobs=tuple(knobs),
        slow_downs=SLOW_DOWNS,
        unit_ms=unit_ms or {},
        rows=tuple(rows),
    )
    return made, measured


def write_profile(path: Path, made: Profile, measured: Measured | None) -> None:
    """The table as JSON, with the distributions it was drawn from. Raises OutputError."""
    plain = made.plain()
    if measured is not None:
        plain["loads"] = {str(load): factor for load, factor in measured.loads.items()}
        plain["unit_quantiles_ms"] = {
            unit_key(*which): [round(float(np.quantile(took, q)) / 1e6, 4) for q in (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)]
            for which, took in measured.alone.items()
        }
    write_whole(path, json.dumps(plain, indent=1) + "\n", public=True)


def hold(samples: int, settings: Mapping[str, str], done: Rehearsal) -> None:
    """Play that many samples, all with the same configuration; for `prepare`."""
    restrict(samples, done)
    stages: dict[str, Replay | EncodeUnits] = {**done.sensors, **done.encoders}
    for name, some in by_stage(settings).items():
        stages[name].declare(describe(type(stages[name])).check_some(some))


def _time(stage: EncodeUnits, size: str, units: list[Unit], repeats: int) -> NDArray[np.int64]:
    encoder = stage.encoder(size)
    encoder(units[0].values)
    took = []
    for i in range(repeats):
        began = time.perf_counter_ns()
        encoder(units[i % len(units)].values)
        took.append(time.perf_counter_ns() - began)
    return np.maximum(took, stage.least_ns(size))


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """Processes that do nothing but compute."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_spin, daemon=True) for _ in range(count)]
    for worker in workers:
        worker.start()
    if workers:
        time.sleep(1.0)
    try:
        yield
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()


def _spin() -> None:
    while True:
        pass
