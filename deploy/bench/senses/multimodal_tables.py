"""Tables of `thalweg bench multimodal` as Markdown.

`python -m thalweg.deploy.bench.senses.multimodal_tables BENCH.json`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from thalweg.deploy.bench.result import OURS
from thalweg.deploy.bench.senses.multimodal_tasks import TASKS
from thalweg.deploy.bench.senses.runs import RATIOS

Rows = dict[tuple[str, str, str], float]

_SYSTEMS = ("blocking", "pipelined", OURS, "pooling", "cutoff", "random-skip", "oracle")
_CONDITIONS = ("clean", "noisy")
_NAMES = {OURS: "**pipelined + skipping**", "pooling": "pipelined, plain pooling"}


def main(path: Path) -> None:
    """Print every table that the file has rows for."""
    rows: Rows = {
        (r["case"], r["system"], r["metric"]): r["value"] for r in json.loads(path.read_text(encoding="utf-8"))["rows"]
    }
    for task in TASKS:
        print(f"\n## {task.name}\n")
        table(("r, data", "system", "p50 ms", "p95 ms", "accuracy %", "skipped %", "slow units not sensed %",
               "encoder s"), systems(rows, task.name))  # fmt: skip
        table(("r = 0.5", "system", "easy: accuracy %", "easy: slow units saved %", "hard: accuracy %",
               "hard: slow units saved %", "mean stop position"), kinds(rows, task.name))  # fmt: skip
        table(("system", "p50 ms: virtual, real", "p95 ms: virtual, real", "CPU s per sample"), real(rows, task.name))
        table(("data", "budget ms", "best fixed, in hindsight: accuracy %, within budget %, p95 ms",
               "fixed, chosen beforehand", "optimizer", "gain over the first (95 %)", "over the second"),
              budgets(rows, task.name, task.budgets_ms))  # fmt: skip
        table(("data", "budget ms", "single load: best fixed → optimizer, %", "double load", "with the predictor",
               "gain over best fixed"), loads(rows, task.name, task.budgets_ms))  # fmt: skip


def table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> None:
    """Nothing where there are no lines."""
    found = list(lines)
    if found:
        for line in (head, ("---",) * len(head), *found):
            print(f"| {' | '.join(line)} |")
        print()


def systems(rows: Rows, name: str) -> Iterable[tuple[str, ...]]:
    """Every system at every ratio."""
    for condition in _CONDITIONS:
        for ratio in RATIOS:
            for system in _SYSTEMS:
                key = f"{name} r={ratio} {condition}", system
                if (*key, "latency_p50") in rows:
                    ms = (f"{rows[(*key, f'latency_{q}')]:.0f}" for q in ("p50", "p95"))
                    percent = [f"{100 * rows[(*key, m)]:.0f}" for m in ("skip_ratio", "unsensed")]
                    accuracy = f"{100 * rows[(*key, 'accuracy')]:.1f}"
                    seconds = f"{rows[(*key, 'encoder_s')]:.2f}"
                    yield f"{ratio} {condition}", _NAMES.get(system, system), *ms, accuracy, *percent, seconds


def kinds(rows: Rows, name: str) -> Iterable[tuple[str, ...]]:
    """Easy and hard samples apart."""
    for condition in _CONDITIONS:
        for system in ("pipelined", OURS, "cutoff", "random-skip", "oracle"):
            key = f"{name} r=0.5 {condition}", system
            if (*key, "accuracy_easy") in rows:
                cells = [
                    f"{100 * rows[(*key, f'{what}_{kind}')]:.{digits}f}"
                    for kind in ("easy", "hard")
                    for what, digits in (("accuracy", 1), ("saved", 0))
                ]
                stop = rows.get((*key, "stop_position"))
                yield condition, system, *cells, "–" if stop is None else f"{stop:.2f}"


def real(rows: Rows, name: str) -> Iterable[tuple[str, ...]]:
    """Virtual clock and real clock."""
    virtual, on_clock = f"{name} r=0.5 clean", f"{name} r=0.5 clean realtime"
    for system in ("blocking", "pipelined", OURS):
        if (on_clock, system, "latency_p50") in rows:
            pairs = (
                f"{rows[virtual, system, f'latency_{q}']:.0f}, {rows[on_clock, system, f'latency_{q}']:.0f}"
                for q in ("p50", "p95")
            )
            yield system, *pairs, f"{rows[on_clock, system, 'cpu_s']:.3f}"


def budgets(rows: Rows, name: str, budgets_ms: Iterable[int]) -> Iterable[tuple[str, ...]]:
    """The optimizer beside fixed configurations."""
    for condition, budget_ms, case in _budget_cases(rows, name, budgets_ms):
        systems = (_within(rows, case, s) for s in ("fixed-best", "fixed-chosen", OURS))
        yield condition, str(budget_ms), *systems, *(_gain(rows, case, OURS, over) for over in ("gain", "gain_chosen"))


def loads(rows: Rows, name: str, budgets_ms: Iterable[int]) -> Iterable[tuple[str, ...]]:
    """Where the gain is made, and what becomes of it with the predictor."""
    for condition, budget_ms, case in _budget_cases(rows, name, budgets_ms):
        halves = (
            " → ".join(
                f"{100 * rows[case, s, f'accuracy_{load}']:.1f}"
                for s in ("fixed-best", OURS)
                if (case, s, "accuracy") in rows
            )
            for load in ("light", "heavy")
        )
        yield (
            condition,
            str(budget_ms),
            *halves,
            _within(rows, case, "predictor"),
            _gain(rows, case, "predictor", "gain"),
        )


def _budget_cases(rows: Rows, name: str, budgets_ms: Iterable[int]) -> Iterable[tuple[str, int, str]]:
    for condition in _CONDITIONS:
        for budget_ms in budgets_ms:
            case = next((c for c, _, _ in rows if c.startswith(f"{name} budget={budget_ms} ") and condition in c), None)
            if case is not None:
                yield condition, budget_ms, case


def _within(rows: Rows, case: str, system: str) -> str:
    if (case, system, "accuracy") not in rows:
        return "–"
    accuracy, within = (100 * rows[case, system, metric] for metric in ("accuracy", "within_budget"))
    return f"{accuracy:.1f}, {within:.1f}, {rows[case, system, 'latency_p95']:.0f}"


def _gain(rows: Rows, case: str, system: str, over: str) -> str:
    """With the 95 % confidence interval."""
    if (case, system, over) not in rows:
        return "–"
    gain, se = (100 * rows[case, system, metric] for metric in (over, f"{over}_se"))
    ends = (f"{gain + z * se:+.1f}".replace("-", "−") for z in (-1.96, 1.96))
    return f"{gain:+.1f} ({' … '.join(ends)})"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
