"""The Grafana dashboard over a stretch of time, asked of Prometheus and drawn by matplotlib: for `bench hour`."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

CHOSEN = {"$__rate_interval": "1m", "$__range": "1h", "$instance": ".*", "$worker": ".*", "$host": ".*"}
_LEAST_STEP_S, _POINTS, _COLUMNS = 5.0, 240, 3


@dataclass(frozen=True, slots=True)
class Panel:
    """`lines`: (name, (seconds, value) of each point); of a panel with nothing to show, none."""

    title: str
    unit: str
    lines: list[tuple[str, list[tuple[float, float]]]] = field(default_factory=list)


def expressions() -> list[tuple[Panel, list[tuple[str, str]]]]:
    """Each panel, empty, and its expressions with everything chosen, with the names of their lines."""
    text = files("thalweg.deploy").joinpath("dashboards/thalweg.json").read_text(encoding="utf-8")
    found = []
    for about in json.loads(text)["panels"]:
        unit = about.get("fieldConfig", {}).get("defaults", {}).get("unit", "")
        targets = [(_chosen(each["expr"]), each.get("legendFormat", "")) for each in about.get("targets", ())]
        if targets:
            found.append((Panel(about["title"], unit), targets))
    return found


def panels_of(prometheus: str, began: float, ended: float) -> list[Panel]:
    """What the dashboard shows from `began` to `ended`, seconds of the epoch. `prometheus`: its address."""
    for panel, targets in (found := expressions()):
        for expression, name in targets:
            for one in query(prometheus, expression, began, ended):
                labels = ", ".join(v for k, v in one["metric"].items() if k not in ("__name__", "instance", "job"))
                points = [(float(at) - began, float(value)) for at, value in one["values"] if value != "NaN"]
                if points:
                    panel.lines.append((labels or name, points))
    return [panel for panel, _ in found]


def query(prometheus: str, expression: str, began: float, ended: float) -> list[Any]:
    """The series of an expression over a time, as Prometheus gives them. Raises OSError."""
    step = max(_LEAST_STEP_S, (ended - began) / _POINTS)
    asked = urllib.parse.urlencode({"query": expression, "start": began, "end": ended, "step": f"{step:.0f}"})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{asked}", timeout=30.0) as response:
        found: list[Any] = json.load(response)["data"]["result"]
    return found


def draw(panels: Sequence[Panel], path: Path) -> None:
    """All of them into one picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = -(-len(panels) // _COLUMNS)
    size = (5 * _COLUMNS, 2.3 * rows)
    figure, axes = plt.subplots(rows, _COLUMNS, figsize=size, layout="constrained", squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        for name, points in panel.lines:
            times, heights = np.array(points).T
            axis.plot(times / 60, heights, lw=1, label=name)
        axis.set_title(f"{panel.title} ({panel.unit})", fontsize=8)
        axis.tick_params(labelsize=6)
        axis.grid(alpha=0.3)
        if len(panel.lines) <= 8 and any(name for name, _ in panel.lines):
            axis.legend(fontsize=5, loc="upper left")
        if not panel.lines:
            axis.text(0.5, 0.5, "nothing", ha="center", transform=axis.transAxes, fontsize=8)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.supxlabel("minutes", fontsize=8)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _chosen(expression: str) -> str:
    for name, value in CHOSEN.items():
        expression = expression.replace(name, value)
    return expression
