"""Pictures of `thalweg bench multimodal`.

`python -m thalweg.deploy.bench.senses.multimodal_plots BENCH.json FOLDER`
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from thalweg.deploy.bench.senses.multimodal_tasks import TASKS
from thalweg.deploy.bench.senses.runs import MS, Setup, graph_of
from thalweg.deploy.commands.recording.rehearsal import rehearse, restrict
from thalweg.pipeline.observing.trace import Span, Trace
from thalweg.pipeline.payload import Unit

_COLOURS = {
    "blocking": "#8a6d54", "pipelined": "#d98032", "thalweg": "#3b6ea5", "oracle": "#4f9a5b", "cutoff": "#b0475a",
    "random-skip": "#7a63a8", "fixed-best": "#4f9a5b", "predictor": "#b0475a", "fixed-chosen": "#8a6d54",
}  # fmt: skip

Rows = dict[tuple[str, str, str], float]


def main(path: Path, folder: Path) -> None:
    """Draw everything that the file has rows for."""
    found = json.loads(path.read_text(encoding="utf-8"))
    rows: Rows = {(r["case"], r["system"], r["metric"]): r["value"] for r in found["rows"]}
    timelines(folder / "multimodal-timeline.png")
    for task in TASKS:
        latencies(folder / f"multimodal-{task.name}.png", rows, task.name)
        budgets(folder / f"multimodal-budgets-{task.name}.png", rows, task.name)


def timelines(path: Path, pack: Path = Path("deploy/examples/avwords.npz"), ratio: float = 0.5) -> None:
    """One sample, three ways: whole sample first, unit by unit, and cut short."""
    task = TASKS[0]
    panels = (
        ("blocking: encode when the sample is whole", Setup(blocking=True)),
        ("pipelined: encode each unit as it comes", Setup()),
        ("pipelined, and the gate stops the camera", Setup(skip=True)),
    )
    figure, grid = plt.subplots(3, 1, figsize=(10.5, 6.4), sharex=True, layout="constrained")
    for axes, (title, setup) in zip(grid, panels, strict=True):
        sensed: dict[str, list[int]] = {m: [] for m in task.modalities}

        def cost(modality: str, size: str, unit: Unit, sensed: dict[str, list[int]] = sensed) -> int:
            sensed[modality].append(unit.sensed_ns)
            return int(ratio * 40 * MS)

        trace = Trace()
        done = rehearse(graph_of(task, pack, setup), cost, trace=trace, prepare=partial(restrict, 1))
        rows = {"microphone": 4, "audio_encoder": 3, "camera": 2, "video_encoder": 1}
        for modality, sensor in (("audio", "microphone"), ("video", "camera")):
            bars = [(t / 1e6 - 36, 33) for t in sensed[modality]]
            axes.broken_barh(bars, (rows[sensor] - 0.32, 0.64), color="#bbbbbb", linewidth=0)
        for event in trace.events:
            if isinstance(event, Span) and event.stage in rows and event.end_ns > event.start_ns:
                colour = "#3b6ea5" if event.stage == "audio_encoder" else "#d98032"
                width = (event.end_ns - event.start_ns) / 1e6
                axes.broken_barh([(event.start_ns / 1e6, width)], (rows[event.stage] - 0.32, 0.64), color=colour,
                                 edgecolor="white", linewidth=0.4)  # fmt: skip
        at_ns, decision = done.decisions[1]
        axes.axvline(960, color="#888888", linestyle=":", linewidth=1)
        axes.axvline(at_ns / 1e6, color="#222222", linewidth=1.6)
        latency = (decision.latency_ns or 0) / 1e6
        axes.text(at_ns / 1e6 + 10, 4.45, f"decided after {latency:.0f} ms", fontsize=9, va="center")
        axes.set_yticks(list(rows.values()), ["microphone", "ear", "camera", "eye"])
        axes.set_ylim(0.4, 4.8)
        axes.set_title(title, loc="left", fontsize=10)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    grid[-1].set_xlabel(
        "ms since the sample began; dotted: the microphone has heard it all; the camera gives frames out 400 ms late"
    )
    grid[0].set_xlim(0, 2080)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def latencies(path: Path, rows: Rows, task: str) -> None:
    """Median latency and accuracy over r, clean and noisy."""
    found = _cases(rows, f"{task} r=", "latency_p50")
    if not found:
        return
    figure, grid = _grid(found)
    for column, condition in enumerate(found):
        for system in ("blocking", "pipelined", "thalweg", "cutoff", "random-skip", "oracle"):
            points = found[condition].get(system, [])
            xs = [x for x, _ in points]
            style: dict[str, Any] = {"color": _COLOURS[system], "marker": "o", "markersize": 4, "label": system}
            grid[0][column].plot(xs, [rows[c, system, "latency_p50"] for _, c in points], **style)
            p95 = [rows[c, system, "latency_p95"] for _, c in points]
            grid[0][column].plot(xs, p95, color=_COLOURS[system], linewidth=0.8, linestyle=":")
            grid[1][column].plot(xs, [100 * rows[c, system, "accuracy"] for _, c in points], **style)
        grid[0][column].set_yscale("log")
        grid[0][column].set_title(f"{task}, {condition}", loc="left", fontsize=10)
        grid[1][column].set_xlabel("r = cost of a unit / interval of units")
    grid[0][0].set_ylabel("latency, ms: p50 (solid), p95 (dotted)")
    grid[1][0].set_ylabel("accuracy, %")
    grid[1][0].legend(frameon=False, fontsize=8)
    _tidy(figure, path)


def budgets(path: Path, rows: Rows, task: str) -> None:
    """Accuracy within each budget while the load doubles midway."""
    found = _cases(rows, f"{task} budget=", "within_budget")
    if not found:
        return
    figure, grid = _grid(found)
    labels = {"thalweg": "optimizer", "predictor": "with predictor", "fixed-best": "best fixed, in hindsight"}
    labels["fixed-chosen"] = "fixed, chosen beforehand"
    for column, condition in enumerate(found):
        for system, label in labels.items():
            points = found[condition].get(system, [])
            style: dict[str, Any] = {"color": _COLOURS[system], "marker": "o", "markersize": 4, "label": label}
            for row, metric in ((0, "accuracy"), (1, "within_budget")):
                values = [100 * rows[c, system, metric] for _, c in points]
                grid[row][column].plot([x for x, _ in points], values, **style)
        grid[1][column].axhline(98, color="#888888", linestyle=":", linewidth=1)
        grid[0][column].set_title(f"{task}, {condition}, load doubles midway", loc="left", fontsize=10)
        grid[1][column].set_xlabel("latency budget, ms")
    grid[0][0].set_ylabel("accuracy, %")
    grid[1][0].set_ylabel("samples within the budget, %")
    grid[0][0].legend(frameon=False, fontsize=8)
    _tidy(figure, path)


def _cases(rows: Rows, start: str, metric: str) -> dict[str, dict[str, list[tuple[float, str]]]]:
    """Condition → system → (number after `start`, case), of the cases that begin so and have the metric."""
    found: dict[str, dict[str, list[tuple[float, str]]]] = {}
    for case, system, name in rows:
        if name == metric and case.startswith(start) and case.split()[-1] in ("clean", "noisy"):
            number = float(case.removeprefix(start).split()[0])
            found.setdefault(case.split()[-1], {}).setdefault(system, []).append((number, case))
    return {c: {s: sorted(points) for s, points in found[c].items()} for c in sorted(found)}


def _grid(found: dict[str, Any]) -> tuple[Any, Any]:
    columns = max(1, len(found))
    return plt.subplots(2, columns, figsize=(5.2 * columns, 6.2), sharex=True, squeeze=False, layout="constrained")


def _tidy(figure: Any, path: Path) -> None:  # Any: matplotlib's figure
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
