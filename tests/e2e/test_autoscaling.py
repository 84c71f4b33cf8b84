"""A front asks Ray's autoscaler for another host before all places are taken, and lets go of those it does not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import require_lab, require_package

pytestmark = pytest.mark.real

ROOT = Path(__file__).parent.parent.parent


def test_a_node_is_asked_for_before_it_is_needed_and_taken_away_once_it_is_not() -> None:
    require_lab()
    require_package("ray", "ray")
    apart = ["unshare", "--pid", "--net", "--mount", "--fork", "--kill-child"]
    # a short name, for Ray's sockets lie below it; killed with their namespace, its processes may write a moment longer
    with tempfile.TemporaryDirectory(prefix="tw", ignore_cleanup_errors=True) as folder:
        ended = subprocess.run(
            [*apart, sys.executable, "-m", "tests.e2e.autoscaled", folder],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=480,
        )
    assert ended.returncode == 0, ended.stderr[-3000:]
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["before"] == 1 and told["apart"]
    assert told["answers"] == ["red", "blue", "green"]
    assert told["most"] >= 2, "and one in the end"
    assert told["metrics"] == ["thalweg_front_conversations 2", "thalweg_front_places 2"] or told["metrics"] == [
        "thalweg_front_conversations 2",
        "thalweg_front_places 3",  # the third host was quick
    ]
