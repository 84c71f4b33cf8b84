"""The recognition benchmark: its search, and that it runs where no peer is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import require_package
from tests.models.archives import TINY
from thalweg.deploy.bench import asr
from thalweg.deploy.bench.result import Result


@pytest.mark.parametrize(
    ("each", "limit", "low", "high"), [(0.01, 0.16, 14, 15), (0.2, 0.16, 0, 0), (0.0, 1.0, 512, 512)]
)
def test_the_search_finds_how_many_fit(each: float, limit: float, low: int, high: int) -> None:
    assert low <= asr._most(lambda n: n * each, limit) <= high


def test_without_peers_it_measures_ours_and_says_who_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_package("onnx", "convert")
    require_package("onnxruntime", "asr")
    monkeypatch.setattr(asr.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(asr, "_MOST_STREAMS", 4)
    result = Result(bench="asr")
    asr._measure_size(result, "tiny", TINY, tmp_path, quick=True)
    assert any(note.startswith("nemo, nemo-onnx: left out") for note in result.notes)
    found = {(row.case, row.system, row.metric) for row in result.rows}
    for system in ("thalweg", "thalweg-int8"):
        for metric in ("step_p50", "step_p95", "cpu_p50", "rtf", "streams", "stream_mb", "core", "final_p99"):
            assert ("tiny 80ms", system, metric) in found
    assert ("tiny 80ms", "buffered", "rtf") in found
    assert all(row.value >= 0 for row in result.rows)
