"""Rows of a benchmark: kept, printed as a table of ratios, written as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from thalweg import __version__
from thalweg.deploy.report import write_whole

OURS = "thalweg"
MANY_SYSTEMS = 4


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
    """What one benchmark found. `notes`: what a reader must know, such as a peer that was not there."""

    bench: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def add(self, case: str, system: str, n: int, unit: str, **metrics: float) -> None:
        """Add metrics of one case, all in the same unit."""
        self.rows += [Row(case=case, system=system, metric=m, unit=unit, value=v, n=n) for m, v in metrics.items()]

    def finish(self, json_path: Path | None) -> None:
        """Print the table and the notes; write the JSON. Raises OutputError."""
        console = Console(highlight=False)
        console.print(self._table())
        for note in self.notes:
            console.print(f"[dim]{note}[/]", soft_wrap=True)
        if json_path is not None:
            write_whole(json_path, json.dumps(self.as_json(), indent=2) + "\n")

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

    def _table(self) -> Table:
        systems = list(dict.fromkeys(row.system for row in self.rows))
        if len(systems) > MANY_SYSTEMS:
            return self._long_table()
        table = Table(title=f"bench {self.bench}", title_justify="left", box=None, pad_edge=False)
        table.add_column("case")
        table.add_column("metric")
        for system in systems:
            table.add_column(system, justify="right")
        peers = [system for system in systems if system != OURS]
        for peer in peers:
            table.add_column(f"{OURS} / {peer}", justify="right")
        found = {(row.case, row.metric, row.system): row for row in self.rows}
        for case, metric in dict.fromkeys((row.case, row.metric) for row in self.rows):
            cells = [found.get((case, metric, system)) for system in systems]
            unit = next(cell.unit for cell in cells if cell)
            values = [f"{cell.value:,.4g}" if cell else "–" for cell in cells]
            mine = found.get((case, metric, OURS))
            for peer in peers:
                other = found.get((case, metric, peer))
                values.append(f"{mine.value / other.value:.3f}" if mine and other and other.value else "–")
            table.add_row(case, f"{metric} ({unit})", *values)
        return table

    def _long_table(self) -> Table:
        """A row per system; the ratio is ours to it, by the first metric."""
        table = Table(title=f"bench {self.bench}", title_justify="left", box=None, pad_edge=False)
        metrics = list(dict.fromkeys((row.metric, row.unit) for row in self.rows))
        for name in ("case", "system", *(f"{metric} ({unit})" for metric, unit in metrics), f"{OURS} / it"):
            table.add_column(name, justify="left" if name in ("case", "system") else "right")
        found = {(row.case, row.system, row.metric): row.value for row in self.rows}
        for case, system in dict.fromkeys((row.case, row.system) for row in self.rows):
            values = [found.get((case, system, metric)) for metric, _ in metrics]
            ours, theirs = found.get((case, OURS, metrics[0][0])), values[0]
            ratio = f"{ours / theirs:.3f}" if ours and theirs and system != OURS else "–"
            table.add_row(case, system, *("–" if value is None else f"{value:,.4g}" for value in values), ratio)
        return table


def quantile(values: list[float], share: float) -> float:
    """The `share` quantile, 0…1, of observations that were not dropped: nearest rank, no interpolation."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * (len(ordered) - 1))))]


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
