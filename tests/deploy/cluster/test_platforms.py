"""A system that lacks what Linux has: what can work does, what cannot says so before anything starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require_lab, require_package
from thalweg.deploy.cluster.host import host_identity
from thalweg.transports.shm.support import missing

TICKING = Path(__file__).parents[1] / "ticking" / "ticking.yaml"
LACKS = """
import os
del os.memfd_create, os.sched_getaffinity
"""
WITHOUT_PROC = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]


def elsewhere(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`thalweg` where there is neither shared memory nor /proc."""
    require_lab()
    require_package("grpc", "grpc")
    (folder / "sitecustomize.py").write_text(LACKS)
    environment = os.environ | {"PYTHONPATH": str(folder), "XDG_STATE_HOME": str(folder)}
    command = [*WITHOUT_PROC, sys.executable, "-m", "thalweg.deploy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def ticking(folder: Path, *changes: tuple[str, str]) -> str:
    """A copy of the ticking pipeline with changes; its path."""
    text = TICKING.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    (folder / "t.yaml").write_text(text)
    (folder / "ticking_stages.py").write_text(TICKING.with_name("ticking_stages.py").read_text())
    return str(folder / "t.yaml")


@pytest.mark.parametrize("placed", ["relay: middle", "{}"])
def test_a_pipeline_runs_in_one_process_and_in_two(tmp_path: Path, placed: str) -> None:
    file, report = ticking(tmp_path, ("  relay: middle", f"  {placed}")), tmp_path / "r.json"
    done = elsewhere(tmp_path, "run", file, "--set", "n=20", "--report", str(report))
    assert done.returncode == 0, done.stderr
    assert json.loads(report.read_text())["stages"]["relay"]["units"] == 20


def test_shared_memory_that_the_file_asks_for_is_refused_before_anything_starts(tmp_path: Path) -> None:
    file = ticking(tmp_path, ("placement:", "transports: {clock.tick -> relay.tick: shm}\nplacement:"))
    done = elsewhere(tmp_path, "run", file)
    assert done.returncode == 2
    assert "is to use shared memory, which needs Linux (memfd_create is not here): take it out of" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_up_is_refused_and_doctor_says_what_works(tmp_path: Path) -> None:
    done = elsewhere(tmp_path, "up", str(TICKING))
    assert done.returncode != 0 and "`up` needs Linux: without /proc" in done.stderr
    assert (
        "not Linux (memfd_create is not here): `run`, `serve` and Python work" in elsewhere(tmp_path, "doctor").stdout
    )


def test_two_processes_without_shared_memory_are_on_two_hosts_with_one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = host_identity()
    assert missing() == ""
    monkeypatch.delattr("os.memfd_create")
    assert missing() == "memfd_create"
    assert host_identity() == f"{with_it.partition('/')[0]}/process {os.getpid()}"
