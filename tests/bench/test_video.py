"""The video benchmark runs, and its rows have the names that are part of the interface. No test looks at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import TEXT_READER, require_lab, require_package
from thalweg.deploy.bench import run_bench

for module in ("av", "cv2", TEXT_READER, "skimage"):
    require_package(module, "bench")


def test_video_measures_allocation_traces_loss_and_costs(tmp_path: Path) -> None:
    run_bench("video", tmp_path / "b.json", quick=True)
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert {row["case"].split()[0] for row in rows} >= {"text", "trace", "loss", "encode", "decide"}
    assert {row["system"] for row in rows} >= {"thalweg", "uniform", "fec", "rtx", "fixed-rate"}
    shares = [row["value"] for row in rows if row["metric"] in ("accuracy", "served")]
    assert shares and all(0 <= share <= 1 for share in shares)


def test_a_trace_runs_over_real_sockets(tmp_path: Path) -> None:
    require_lab()
    run_bench("video", tmp_path / "b.json", quick=True, part="sockets")
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    found = {row["metric"]: row["value"] for row in rows}
    assert found["bitrate"] > 0 and not found.get("latency_p95", 30.0) < 30.0


def test_what_was_measured_is_not_measured_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run_bench("video", tmp_path / "b.json", quick=True, part="loss")
    capsys.readouterr()
    again = run_bench("video", tmp_path / "b.json", quick=True, part="loss")
    assert capsys.readouterr().err == "" and again.rows == first.rows
