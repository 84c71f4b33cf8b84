"""Rows of a benchmark: kept, printed as a table of ratios, written as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from rich.table import Table

from thalweg import __version__
from thalweg.deploy.bench.rounds import OURS as OURS
from thalweg.deploy.bench.rounds import Rounds
from thalweg.deploy.console import Console
from thalweg.deploy.ops.observing.report import write_whole
from thalweg.pipeline.observing.quantile import quantile as quantile

MANY = 4
FILE_WIDTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number: `metric` of `system` in `case`; `n` is how many observations it comes from."""

    case: str
    system: str
    metric: str
    unit: str
    value: float
    n: int


@dataclass(slots=True)
class Result:
    """What one benchmark found. `notes`: what a reader must know, such as a peer that was not there.

    `limit_s`: in place of the limits that rounds have of their own.
    """

    bench: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    limit_s: float | None = None
    rounds: Rounds = field(init=False)

    def __post_init__(self) -> None:
        self.rounds = Rounds(self.bench, self.notes, self.limit_s)

    def add(self, case: str, system: str, n: int, unit: str, **metrics: float) -> None:
        """Add metrics of one case, all in the same unit."""
        self.rows += [Row(case=case, system=system, metric=m, unit=unit, value=v, n=n) for m, v in metrics.items()]

    def finish(self, json_path: Path | None) -> None:
        """Print the table and the notes; write the JSON. Raises OutputError."""
        console = Console(width=FILE_WIDTH)
        for table in self._tables():
            console.print(table)
        for note in self.notes:
            console.say((note, "dim"))
        if json_path is not None:
            write_whole(json_path, json.dumps(self.as_json(), indent=2) + "\n", public=True)

    def as_json(self) -> dict[str, Any]:
        """`{bench, machine, versions, rows, notes}`."""
        machine = {
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "cpu": _cpu_name(),
            "python": platform.python_version(),
        }
        versions = {"thalweg": __version__, "numpy": importlib.metadata.version("numpy"), **self.versions}
        rows = [asdict(row) for row in self.rows]
        return {"bench": self.bench, "machine": machine, "versions": versions, "rows": rows, "notes": self.notes}

    def _tables(self) -> Iterator[Table]:
        """Cases that were asked the same questions stand in one table."""
        measured: dict[str, dict[tuple[str, str], None]] = {}
        for row in self.rows:
            measured.setdefault(row.case, {})[row.metric, row.unit] = None
        alike: dict[frozenset[tuple[str, str]], list[str]] = {}
        for case, metrics in measured.items():
            alike.setdefault(frozenset(metrics), []).append(case)
        titles = chain([f"bench {self.bench}"], repeat(""))
        for cases in alike.values():
            rows = [row for row in self.rows if row.case in set(cases)]
            systems = list(dict.fromkeys(row.system for row in rows))
            asked = list(measured[cases[0]])
            many = len(systems) > MANY
            table = _by_system(rows, asked) if many and len(asked) <= MANY else _by_metric(rows, systems, not many)
            table.title = next(titles) or None
            yield table


def _table(*left: str) -> Table:
    table = Table(title_justify="left", box=None, pad_edge=False)
    for name in left:
        table.add_column(name)
    return table


def _by_metric(rows: list[Row], systems: list[str], ratios: bool) -> Table:
    """A row per case and metric, a column per system, and the ratios of ours to theirs."""
    table = _table("case", "metric")
    peers = [system for system in systems if system != OURS] if ratios else []
    for name in (*systems, *(f"{OURS} / {peer}" for peer in peers)):
        table.add_column(name, justify="right")
    found = {(row.case, row.metric, row.system): row for row in rows}
    for case, metric in dict.fromkeys((row.case, row.metric) for row in rows):
        cells = [found.get((case, metric, system)) for system in systems]
        unit = next(cell.unit for cell in cells if cell)
        values = [f"{cell.value:,.4g}" if cell else "–" for cell in cells]
        mine = found.get((case, metric, OURS))
        for peer in peers:
            other = found.get((case, metric, peer))
            values.append(f"{mine.value / other.value:.3f}" if mine and other and other.value else "–")
        table.add_row(case, f"{metric} ({unit})", *values)
    return table


def _by_system(rows: list[Row], metrics: list[tuple[str, str]]) -> Table:
    """A row per case and system; the ratio is ours to it, by the first metric."""
    table = _table("case", "system")
    for name in (*(f"{metric} ({unit})" for metric, unit in metrics), f"{OURS} / it"):
        table.add_column(name, justify="right")
    found = {(row.case, row.system, row.metric): row.value for row in rows}
    for case, system in dict.fromkeys((row.case, row.system) for row in rows):
        values = [found.get((case, system, metric)) for metric, _ in metrics]
        ours, theirs = found.get((case, OURS, metrics[0][0])), values[0]
        ratio = f"{ours / theirs:.3f}" if ours and theirs and system != OURS else "–"
        table.add_row(case, system, *("–" if value is None else f"{value:,.4g}" for value in values), ratio)
    return table


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
