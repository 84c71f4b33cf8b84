"""`thalweg bench threads` runs, and its rows have the names that docs/benchmarks.md quotes. No test looks at a time."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import require_model, require_package
from thalweg.deploy.bench import run_bench
from thalweg.deploy.bench.result import OURS

MODEL = "smollm2-135m-instruct"


def test_one_thread_and_two_are_compared_alone_and_beside_a_busy_one(tmp_path: Path) -> None:
    require_package("xllamacpp", "llama")
    require_model(MODEL)
    rows = run_bench("threads", tmp_path / "b.json", quick=True, model=MODEL).rows
    assert {(row.case, row.system) for row in rows} == {
        (case, system) for case in ("alone", "beside a busy thread") for system in (OURS, "one", "spinning")
    }
    assert {row.metric for row in rows} == {"token", "tail"} and all(row.value > 0 for row in rows)
