"""The optimizer within latency budgets while the load doubles midway, beside fixed configurations.

The device is profiled on validation samples first, at declared costs. Then the test samples come, and after half of
them every unit takes twice as long. Fixed are all configurations that are not far beyond every budget by then. One may
be used at a budget if it keeps to it in at least 98 % of all samples, which is asked of the optimizer too; `fixed-best`
is the most accurate of those in hindsight, on the test samples themselves: no one who had to choose beforehand could do
better. `fixed-chosen` is the best choice with the optimizer's knowledge: the most accurate of those that the profile
says to be in time at double load. What the optimizer gains over either is measured sample by sample, and given with its
standard error.
"""

from __future__ import annotations

import json
import time
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.bench.senses.runs import MS, SAMPLES_S, SHARES, Setup, Task, costs, graph_of, run, usual_cost_ms
from thalweg.deploy.commands.profiling import SLOW_DOWNS, SLOWED_SAMPLES, hold
from thalweg.deploy.commands.recording.rehearsal import Memory, Rehearsal, rehearse
from thalweg.models.senses.packs import open_samples
from thalweg.models.store.fingerprint import fingerprint
from thalweg.pipeline.senses.configuring import Kind, Knob, Optimizer, Profile, Request, Row, unit_key

RATIO = 1.2
KEPT = 0.98


class Load:
    """A factor on what units cost: 1, and 2 from the given sample on."""

    def __init__(self, doubles_at: int) -> None:
        self._doubles_at = doubles_at
        self.done: Rehearsal | None = None

    def __call__(self) -> float:
        decided = 0 if self.done is None or self.done.decide is None else self.done.decide.newest
        return 2.0 if decided > self._doubles_at else 1.0


def budgets(
    result: Result, task: Task, pack: Path, profiled: Path, condition: str, memory: Memory, quick: bool
) -> None:
    """Rows of the cases `NAME budget=B CONDITION`."""
    rounds, case = result.rounds, f"{task.name} {condition}"
    profile = partial(declared_profile, task, profiled, memory, quick)
    table = rounds.ours(f"{case}, profiling the device", profile, 4 * SAMPLES_S)
    path = pack.with_suffix(".profile.json")
    path.write_text(json.dumps(table.plain()), encoding="utf-8")
    fixed = {}
    at_double = table.slow_downs.index(2.0)
    hopeful = [row for row in table.rows if row.latency_ms[at_double] <= 1.25 * task.budgets_ms[-1]]
    hopeful = sorted(hopeful, key=lambda row: -row.accuracy)[: 2 if quick else None]
    budgets_ms = (100,) if quick else task.budgets_ms
    rounds.expect(len(hopeful) + 2 * len(budgets_ms))
    for i, row in enumerate(hopeful):
        what = f"{case}, configuration {i + 1} of {len(hopeful)}"
        loaded = partial(_loaded, task, pack, _fixed(task, row), memory)
        fixed[json.dumps(dict(row.settings))] = rounds.ours(what, loaded, SAMPLES_S, system="fixed")
    for budget_ms in budgets_ms:
        case = f"{task.name} budget={budget_ms} r={RATIO} {condition}"
        usable = {name: done for name, done in fixed.items() if _kept(done, budget_ms) >= KEPT}
        best = usable[max(usable, key=lambda name: usable[name].accuracy)] if usable else None
        in_time = [row for row in hopeful if row.latency_ms[at_double] <= budget_ms]
        chosen = fixed[json.dumps(dict(in_time[0].settings))] if in_time else None
        for system, predict in ((OURS, False), ("predictor", True)):
            setup = Setup(profile=path, budget_ms=budget_ms, lag_ms=0, choices_ms=task.choices_ms, predict=predict)
            done = rounds.ours(case, partial(_loaded, task, pack, setup, memory), SAMPLES_S, system=system)
            _record(result, case, system, done, budget_ms)
            if best is not None:
                _compare(result, case, system, done, best, "gain")
            if chosen is not None:
                _compare(result, case, system, done, chosen, "gain_chosen")
        if chosen is not None:
            _record(result, case, "fixed-chosen", chosen, budget_ms)
        if best is not None:
            _record(result, case, "fixed-best", best, budget_ms)
        else:
            result.notes.append(f"{case}: no fixed configuration keeps to the budget in {KEPT:.0%} of the samples")
        result.add(case, "fixed-best", len(hopeful), "configurations", usable=len(usable))
    _decision_time(result, task, table)


def declared_profile(task: Task, pack: Path, memory: Memory, quick: bool) -> Profile:
    """What `thalweg profile` would measure on the declared device."""
    knobs = [Knob(f"{m}_encoder.size", Kind.MODEL_SIZE, tuple(SHARES), m) for m in task.modalities]
    knobs += [
        Knob(f"{m}_sensor.unit", Kind.UNIT_LENGTH, tuple(f"{c}ms" for c in reversed(task.choices_ms[m])), m)
        for m in task.modalities
    ]
    slow_downs = (1.0, 2.0, 4.0) if quick else SLOW_DOWNS
    rows = []
    for values in product(*(knob.values for knob in knobs)):
        settings = dict(zip((knob.name for knob in knobs), values, strict=True))
        latencies, accuracy = [], 0.0
        for slow_down in slow_downs:
            cost = costs(RATIO, task, seed=1, factor=lambda s=slow_down: s)  # type: ignore[misc]
            samples = 3 if quick else 1000 if slow_down == 1 else SLOWED_SAMPLES
            graph = graph_of(task, pack, Setup(lag_ms=0, choices_ms=task.choices_ms))
            done = rehearse(graph, cost, memory=memory, prepare=partial(hold, samples, settings))
            latencies.append(float(np.quantile(done.latencies_ms, 0.98)))
            accuracy = done.accuracy if slow_down == 1 else accuracy
        rows.append(Row(settings, accuracy, tuple(latencies)))
    unit_ms = {
        unit_key(m, size, values): usual_cost_ms(RATIO, task, m, size, values)
        for m in task.modalities
        for size in SHARES
        for values in unit_values(task, pack, m)
    }
    return Profile(
        pipeline=task.name, made=time.strftime("%Y-%m-%d"), fingerprint=fingerprint(), knobs=tuple(knobs),
        slow_downs=slow_downs, unit_ms=unit_ms, rows=tuple(rows),
    )  # fmt: skip


def unit_values(task: Task, pack: Path, modality: str) -> set[int]:
    """How many values units have, at each of their lengths."""
    samples = open_samples(pack)
    track, ticks = samples.tracks[modality], samples.ticks(0, modality)
    lengths = [1 if track.join == "pick" else ms * MS // track.tick_ns for ms in task.choices_ms[modality]]
    return {length * ticks[0].size for length in lengths}


def _fixed(task: Task, row: Row) -> Setup:
    return Setup(
        sizes={m: row.settings[f"{m}_encoder.size"] for m in task.modalities},
        units_ms={m: int(row.settings[f"{m}_sensor.unit"].removesuffix("ms")) for m in task.modalities},
        lag_ms=0,
    )


def _loaded(task: Task, pack: Path, setup: Setup, memory: Memory) -> Rehearsal:
    from thalweg.models.senses.packs import Pack

    load = Load(len(Pack(pack).labels) // 2)
    return run(task, pack, setup, costs(RATIO, task, factor=load), memory, load)


def _kept(done: Rehearsal, budget_ms: float) -> float:
    return sum(latency <= budget_ms for latency in done.latencies_ms) / len(done.labels)


def _record(result: Result, case: str, system: str, done: Rehearsal, budget_ms: float) -> None:
    n, latencies = len(done.labels), done.latencies_ms
    light, heavy = ([done.right(epoch) for epoch in part] for part in (range(1, n // 2 + 1), range(n // 2 + 1, n + 1)))
    result.add(case, system, n, "ms", latency_p50=quantile(latencies, 0.5), latency_p95=quantile(latencies, 0.95))
    result.add(case, system, n, "share", accuracy=done.accuracy, within_budget=_kept(done, budget_ms))
    result.add(
        case, system, n // 2, "share", accuracy_light=float(np.mean(light)), accuracy_heavy=float(np.mean(heavy))
    )


def _compare(result: Result, case: str, system: str, done: Rehearsal, fixed: Rehearsal, name: str) -> None:
    """What `done` gains over `fixed` on the same samples, and the standard error of that."""
    n = len(done.labels)
    gains = [done.right(epoch) - fixed.right(epoch) for epoch in range(1, n + 1)]
    result.add(case, system, n, "share", **{name: float(np.mean(gains)), f"{name}_se": float(np.std(gains)) / n**0.5})


def _decision_time(result: Result, task: Task, table: Profile) -> None:
    """What one choice costs on this machine, with the predictor and without."""
    from thalweg.models.senses.bundle import load_bundle
    from thalweg.stages.senses.tune import predictor_of

    predict = predictor_of(table, load_bundle(task.model))
    rng = np.random.default_rng(0)
    first = {m: rng.standard_normal(64).astype(np.float32) for m in task.modalities}
    optimizer = Optimizer(table, predict)
    took = []
    for _ in range(500):
        began = time.perf_counter()
        optimizer.choose(Request(budget_ms=100), 1.3, first)
        took.append((time.perf_counter() - began) * 1e3)
    result.add(task.name, OURS, len(took), "ms", choice_p50=quantile(took, 0.5), choice_p95=quantile(took, 0.95))
