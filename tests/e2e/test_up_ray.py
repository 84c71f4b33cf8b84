"""A deployment that stays, on a real Ray cluster of two nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_package
from tests.deploy.cluster.ray_cluster import ray_cluster
from thalweg.deploy.ops.keeping.deployments import DeploymentFolder

ROOT = Path(__file__).parent.parent.parent
STAGES = ROOT / "tests" / "deploy" / "ticking" / "ticking_stages.py"
PIPELINE = """
name: on-ray
stages:
  clock: {use: "ticking_stages:Ticker", gap_ms: 10}
  relay: {use: "ticking_stages:Relay", every: 10}
  drain: {use: "ticking_stages:Drain"}
connections: [clock -> relay -> drain]
workers:
  first: {launcher: ray, resources: {left: 0.1}}
  second: {launcher: ray, resources: {right: 0.1}}
placement: {clock: first, relay: second}
"""


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes."""
    nodes = {"num_cpus": 1, "resources": {"left": 1}}, {"num_cpus": 1, "resources": {"right": 1}}
    with ray_cluster(*nodes) as address:
        yield address


def test_a_deployment_on_two_ray_nodes_is_seen_heard_and_ended(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    (tmp_path / "ticking_stages.py").write_text(STAGES.read_text())
    (tmp_path / "on_ray.yaml").write_text(PIPELINE)

    def thalweg(*arguments: str) -> str:
        command = [sys.executable, "-m", "thalweg.deploy", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    thalweg("up", str(tmp_path / "on_ray.yaml"), "--ray", cluster)
    try:
        (listed,) = json.loads(thalweg("ps", "--json"))
        workers = listed["workers"]
        assert {name: worker["launcher"] for name, worker in workers.items()} == {
            "local": "subprocess",
            "first": "ray",
            "second": "ray",
        }
        assert len({worker["pid"] for worker in workers.values()}) == 3
        stages = {stage["stage"]: stage for stage in json.loads(thalweg("top", "--json"))["stages"]}
        assert stages["relay"]["worker"] == "second"
        assert stages["drain"]["rate"] > 0
        deadline = time.monotonic() + 30
        while "relayed" not in thalweg("logs", "--worker", "second"):
            everything = thalweg("logs")
            assert time.monotonic() < deadline, everything
        assert "supervisor" not in thalweg("logs", "--worker", "second")
    finally:
        told = thalweg("down", "on-ray")
    assert "0 error(s)" in told
    pids = [worker["pid"] for worker in workers.values()]
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids[:1]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not DeploymentFolder("on-ray").path.exists()


def test_without_a_cluster_at_the_address_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_package("ray", "ray")
    (tmp_path / "ticking_stages.py").write_text(STAGES.read_text())
    (tmp_path / "on_ray.yaml").write_text(PIPELINE)
    env = os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path / "state")}
    command = [sys.executable, "-m", "thalweg.deploy", "up", str(tmp_path / "on_ray.yaml"), "--ray", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert done.returncode == 2
    assert (
        "there is no Ray cluster at 127.0.0.1:1: Connection refused; start one with `ray start --head`" in done.stderr
    )
