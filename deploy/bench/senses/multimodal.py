"""How soon and how well a sample of two modalities is decided: blocking, pipelined, tuned, cut short.

Whole pipelines under the virtual clock: real encoders, aggregation, gate, optimizer and decisions on the synthetic test
sets; only the time a unit takes in an encoder is declared. The largest encoder takes r times the interval of
units, the middle one 0.6 and the smallest 0.3 of that, longer units a little more, all with 10 % jitter. So
queues and overload are exact and repeatable on any machine; the case `realtime` runs the same on the real clock.

Latency is t(decision) − min(end of sensing over modalities): it starts when the faster modality has been sensed to its
end, and includes waiting for the slower one (MMEdge's definition). Warm-up is not needed under the virtual clock.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.bench.senses.runs import MS, RATIOS, SAMPLES_S, SHARES, Setup, Task, costs, graph_of, run
from thalweg.deploy.commands.recording.rehearsal import Keep, Memory, Rehearsal
from thalweg.deploy.runtime.worker import Worker
from thalweg.models.errors import ModelError
from thalweg.pipeline.graph import Graph
from thalweg.stages.senses.decide import DecideSamples, Seen
from thalweg.stages.senses.replay import Replay
from thalweg.stages.senses.units import EncodeUnits


def oracle(whole: Rehearsal, classes: tuple[str, ...]) -> Callable[[Seen], float]:
    """Knows the truth: yes where the decision from what was seen is right, or the whole sample would be wrong too."""

    def gate(seen: Seen) -> float:
        right = classes[int(seen.logits.argmax())] == whole.labels[seen.epoch - 1]
        return float(right or not whole.right(seen.epoch))

    return gate


def at_random(skipping: Rehearsal, task: Task, seed: int = 0) -> Callable[[Seen], float]:
    """Says yes at each checkpoint as often as the gate did, to samples chosen at random."""
    assert skipping.decide is not None
    rng = np.random.default_rng(seed)
    asked: dict[float, list[bool]] = {}
    for epoch, checkpoint, _ in skipping.decide.gate_calls:
        later = any(e == epoch and c > checkpoint for e, c, _ in skipping.decide.gate_calls)
        taken = not later and skipping.decisions[epoch][1].reason == "skipped"
        asked.setdefault(checkpoint, []).append(taken)
    shares = {checkpoint: float(np.mean(taken)) for checkpoint, taken in asked.items()}
    return lambda seen: float(rng.random() < shares.get(seen.checkpoint, 0.0))


def record(result: Result, case: str, system: str, done: Rehearsal, task: Task) -> None:
    """Rows of one system."""
    n = len(done.labels)
    latencies = done.latencies_ms
    skipped = [d.reason == "skipped" for _, d in done.decisions.values()]
    slow = done.sensors[f"{task.slow}_sensor"]
    planned = slow.sensed + slow.unsensed
    busy_s = sum(encoder.busy_ns for encoder in done.encoders.values()) / 1e9
    result.add(case, system, n, "ms", latency_p50=quantile(latencies, 0.5), latency_p95=quantile(latencies, 0.95))
    result.add(case, system, n, "share", accuracy=done.accuracy, skip_ratio=sum(skipped) / n)
    result.add(case, system, n, "s", encoder_s=busy_s / n)
    result.add(case, system, n, "share", unsensed=slow.unsensed / max(1, planned))
    if any(skipped):
        stops = [d.used.get(task.slow, 0) / (planned / n) for _, d in done.decisions.values() if d.reason == "skipped"]
        result.add(case, system, len(stops), "share", stop_position=float(np.mean(stops)))
    for kind in dict.fromkeys(task.kinds.values()):
        epochs = [e for e in range(1, n + 1) if task.kinds[done.labels[e - 1]] == kind]
        used = [done.decisions[e][1].used.get(task.slow, 0) for e in epochs if e in done.decisions]
        saved = 1 - sum(used) / (planned / n * len(epochs))
        right = sum(done.right(e) for e in epochs) / len(epochs)
        result.add(case, system, len(epochs), "share", **{f"accuracy_{kind}": right, f"saved_{kind}": saved})


def systems(result: Result, task: Task, pack: Path, condition: str, ratios: tuple[float, ...], memory: Memory) -> None:
    """Every system at every ratio."""
    from thalweg.models.senses.bundle import load_bundle

    classes = load_bundle(task.model).classes
    result.rounds.expect(7 * len(ratios))
    for ratio in ratios:
        case = f"{task.name} r={ratio} {condition}"

        def measured(system: str, setup: Setup, case: str = case, ratio: float = ratio) -> Rehearsal:
            begin = partial(run, task, pack, setup, costs(ratio, task), memory)
            return result.rounds.ours(case, begin, SAMPLES_S, system=system)

        whole = measured("pipelined", Setup())
        skipping = measured(OURS, Setup(skip=True))
        found = {
            OURS: skipping,
            "blocking": measured("blocking", Setup(blocking=True)),
            "pipelined": whole,
            "pooling": measured("pooling", Setup(aggregate=False)),
            "cutoff": measured("cutoff", Setup(skip=True, checkpoints=(0.001,), gate=lambda _: 1.0)),
            "random-skip": measured("random-skip", Setup(skip=True, gate=at_random(skipping, task))),
            "oracle": measured("oracle", Setup(skip=True, gate=oracle(whole, classes))),
        }
        for system, done in found.items():
            record(result, case, system, done, task)


def gate_cost(result: Result, task: Task) -> None:
    """What asking the gate costs on this machine: answers of every modality, fusion, gate."""
    decide = DecideSamples(model=task.model, skip=True)
    rng = np.random.default_rng(0)
    sample = decide._begin(1)
    for m in task.modalities:
        for _ in range(24):
            sample.aggregators[m].push(rng.standard_normal(64).astype(np.float32))
        sample.shares[m] = 0.5
    took = []
    for _ in range(300):
        began = time.perf_counter()
        pooled = decide._pooled(sample)
        decide.gate(Seen(1, 0.5, pooled, sample.shares, decide._fusion(pooled)))
        took.append((time.perf_counter() - began) * 1e3)
    result.add(task.name, OURS, len(took), "ms", gate_p50=quantile(took, 0.5), gate_p95=quantile(took, 0.95))


def realtime(result: Result, task: Task, pack: Path, condition: str, ratio: float, samples: int) -> None:
    """The same on the real clock, beside what the virtual one says of the same samples; with the CPU time it took.

    `cpu_s`: of this process per sample, everything in it: real encoders, the declared rest of their time is slept.
    """
    declared = {
        (m, size): int(ratio * task.unit_ms[m] * share * MS) for m in task.modalities for size, share in SHARES.items()
    }
    for system, setup in (
        ("blocking", Setup(blocking=True)),
        ("pipelined", Setup()),
        (OURS, Setup(skip=True)),
    ):
        graph = graph_of(task, pack, setup)
        live = Graph(name=task.name)
        keep = Keep()
        for vertex in graph.stages.values():
            stage = vertex.make()
            if isinstance(stage, EncodeUnits):
                stage.pretend = lambda size, unit: declared[unit.modality, size]
            elif isinstance(stage, Replay):
                stage.restrict(samples)
                stage.gap_ns = 700 * MS
            live.add(vertex.name, stage)
        live.add("kept", keep)
        for c in graph.connections:
            live.connect(f"{c.source}.{c.source_port}", f"{c.target}.{c.target_port}", capacity=c.capacity)
        live.connect("decide", "kept")
        began_s = time.process_time()
        asyncio.run(Worker(live).run())
        took_s = time.process_time() - began_s
        latencies = [d.latency_ns / 1e6 for _, _, d in keep.taken if d.latency_ns is not None]
        case = f"{task.name} r={ratio} {condition} realtime"
        result.add(
            case, system, len(latencies), "ms",
            latency_p50=quantile(latencies, 0.5), latency_p95=quantile(latencies, 0.95),
        )  # fmt: skip
        result.add(case, system, len(latencies), "s", cpu_s=took_s / len(latencies))


PARTS = ("systems", "budgets")


def measure(result: Result, quick: bool, part: str | None = None) -> None:
    """Both tasks, clean and noisy; a few samples where it is only to be seen that it works.

    `part`: only `systems`, what skipping brings, or `budgets`, the optimizer. Raises BenchError on another.
    """
    if part is not None and part not in PARTS:
        raise BenchError(f"bench multimodal has no part {part!r}; it has {', '.join(PARTS)}")
    from thalweg.deploy.bench.senses.budgets import budgets
    from thalweg.deploy.bench.senses.multimodal_tasks import TASKS, make_packs

    count = 34 if quick else 544
    result.notes.append("latency: t(decision) − min(end of sensing over modalities); encoder costs are declared as r")
    with tempfile.TemporaryDirectory() as folder:
        for task in TASKS:
            try:
                make = partial(make_packs, task, Path(folder), count, quick)
                packs = result.rounds.ours(f"making samples of {task.name}", make, SAMPLES_S)
            except ModelError as error:
                result.notes.append(f"{task.name} is left out: {error}")
                continue
            memory: Memory = {}
            for condition, made in packs.items():
                if part != "budgets":
                    systems(result, task, made.test, condition, (0.5,) if quick else RATIOS, memory)
                if task.budgets_ms and part != "systems":
                    budgets(result, task, made.many, made.profiled, condition, memory, quick)
            if part == "budgets":
                continue
            gate_cost(result, task)
            if not quick:
                live = partial(realtime, result, task, packs["clean"].test, "clean", 0.5, 20)
                result.rounds.ours(f"{task.name} on the real clock", live, SAMPLES_S)
