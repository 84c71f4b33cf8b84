"""Pipelines under the limits of the image: what would write elsewhere, or want a network or a privilege, fails here."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import EXAMPLES, require, require_package
from tests.deploy.ops.confined import confined

pytestmark = pytest.mark.real
PYTHON = os.path.join(os.path.realpath(sys.prefix), "bin", "python")
LOOK = """
import os
status = open("/proc/self/status").read()
print(os.getuid(), [line.split()[1] for line in status.splitlines() if line.startswith(("CapBnd", "NoNewPrivs"))])
for path in ("/x", "/usr/x", "/etc/x", __import__("thalweg").__file__ + "c"):
    try:
        open(path, "w")
    except OSError as error:
        print(error.strerror)
"""


@pytest.fixture(autouse=True)
def _able() -> None:
    require(shutil.which("runc"), "apt-get install runc")
    require(os.geteuid() == 0, "root, to be another user")


def test_it_is_confined(tmp_path: Path) -> None:
    done = confined(tmp_path, PYTHON, "-c", LOOK)
    assert done.stdout.splitlines() == ["1000 ['0000000000000000', '1']", *["Read-only file system"] * 4], done.stderr


def test_a_pipeline_in_three_processes_needs_no_network_and_writes_its_output_only(tmp_path: Path) -> None:
    require_package("onnxruntime", "multimodal")
    file, samples = EXAMPLES / "avwords_processes.yaml", EXAMPLES / "avwords.npz"
    given = (f"samples={samples}", "limit=2")
    sets = [part for value in given for part in ("--set", value)]
    done = confined(tmp_path, PYTHON, "-m", "thalweg.deploy", "run", str(file), *sets, "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["decisions.jsonl"]


def test_a_pipeline_that_is_up_answers_ps_and_is_drained_and_writes_its_state_and_output_only(tmp_path: Path) -> None:
    require_package("onnxruntime", "multimodal")
    thalweg = f"{PYTHON} -m thalweg.deploy"
    file, samples = EXAMPLES / "avwords.yaml", EXAMPLES / "avwords.npz"
    up = f"{thalweg} up {file} --set samples={samples} --name pipeline --foreground"
    ready = f"for i in $(seq 60); do {thalweg} ps | grep '^pipeline  *ready' && break; sleep 0.5; done"
    done = confined(tmp_path, "sh", "-c", f"{up} & {ready}; kill $!; wait $!")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ready" in done.stdout
    written = {path.relative_to(tmp_path / "home").parts[:3] for path in (tmp_path / "home").rglob("*")}
    kept = {(".local",), (".local", "state"), (".local", "state", "thalweg")}
    assert written == kept | {("decisions.jsonl",)}
