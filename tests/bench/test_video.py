"""The video benchmark runs, and its rows have the names that are part of the interface. No test looks at a time."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import require_package
from thalweg.deploy.bench import run_bench

for module in ("av", "cv2", "rapidocr_onnxruntime", "skimage"):
    require_package(module, "bench")


def test_video_measures_allocation_traces_loss_and_costs(tmp_path: Path) -> None:
    run_bench("video", tmp_path / "b.json", quick=True)
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert {row["case"].split()[0] for row in rows} >= {"text", "trace", "loss", "encode", "decide"}
    assert {row["system"] for row in rows} >= {"thalweg", "uniform", "fec", "rtx", "fixed-rate"}
    shares = [row["value"] for row in rows if row["metric"] in ("accuracy", "served")]
    assert shares and all(0 <= share <= 1 for share in shares)
