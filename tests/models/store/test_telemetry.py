"""ONNX Runtime is loaded by what lies below `thalweg.models`, which sees to it that it reports to nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require_package

NETWORK = next((Path(__file__).parents[3] / "models" / "weights").rglob("*.onnx"))
OPENS = f"import onnxruntime; onnxruntime.InferenceSession({str(NETWORK)!r})"
WATCHED = {"CI", "TF_BUILD", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY"}  # where it tells nothing by itself


@pytest.mark.real
def test_a_session_leaves_no_name_of_this_machine_for_its_makers(tmp_path: Path) -> None:
    require_package("onnxruntime", "asr")
    env = {name: value for name, value in os.environ.items() if name not in WATCHED}
    env |= {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", f"import thalweg.models; {OPENS}"], env=env, check=True, timeout=60)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.real
def test_who_wants_it_to_report_is_not_overruled() -> None:
    env = os.environ | {"ORT_DISABLE_TELEMETRY": "0"}
    say = "import os, thalweg.models; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", say], env=env, check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout == "0\n"
