"""Workers as actors of a real Ray cluster of several nodes, which are killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_package
from tests.deploy.cluster.ray_cluster import ray_cluster_here
from tests.deploy.cluster.test_restart import FAILING, run, summed
from tests.e2e.test_placement import run_example, said, turns_in_one_process
from thalweg.deploy.cluster.deployment import Deployment

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, of sockets and processes it leaves to the collector

CHAIN = FAILING / "chain_ray.yaml"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that has `near`; nodes are added by the tests."""
    with ray_cluster_here(num_cpus=1, resources={"near": 1}) as found:
        yield found


@pytest.mark.usefixtures("voice_demo")
def test_the_voice_pipeline_answers_on_two_nodes_as_it_does_in_one_process(cluster: Any, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1)
    outcome = asyncio.run(run_example(tmp_path, "voice_turn_ray.yaml", "full", {}))
    assert said(outcome.turns) == turns_in_one_process(tmp_path)
    assert outcome.problems == []


def test_a_skip_reaches_a_sensor_on_another_node(cluster: Any, tmp_path: Path) -> None:
    from tests.e2e.test_multimodal import PACK, assert_skips, decisions, variant

    require_package("onnxruntime", "multimodal")
    cluster.add_node(num_cpus=1)
    file = variant(tmp_path, "workers:\n  sensors: {launcher: ray}\n  encoders: {launcher: ray}\n")
    assert_skips(decisions(file, tmp_path, samples=PACK, limit="3", camera_lag="600ms"))


def test_a_killed_actor_and_then_its_killed_node_cost_no_packet(cluster: Any, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1, resources={"far": 1})

    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(50)
        stats = await deployment.stats()
        assert stats["middle"] is not None
        os.kill(stats["middle"]["pid"], signal.SIGKILL)
        await sink.has(150)
        cluster.add_node(num_cpus=1, resources={"far": 1})  # holds up this process alone; it wants the main thread
        cluster.remove_node(node, allow_graceful=False)

    texts, outcome = asyncio.run(run(CHAIN, {"n": 400}, meddle, within_s=300))
    assert texts == summed(400)
    assert [problem.stage for problem in outcome.problems] == ["middle", "middle"]


def test_replicas_are_actors_on_two_nodes_and_a_killed_one_costs_no_packet(cluster: Any) -> None:
    from tests.deploy.cluster.test_replicas import REPLICAS, several

    cluster.add_node(num_cpus=1)

    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(60)
        stats = (await deployment.stats())["pool.2"]
        assert stats is not None
        os.kill(stats["pid"], signal.SIGKILL)

    values = {"launcher": "ray", "replicas": 2, "n": 300, "gap": 10}
    texts, outcome = asyncio.run(run(REPLICAS, values, meddle, within_s=120))
    assert texts == several([str(i) for i in range(300)])
    assert [(p.stage, p.recovered) for p in outcome.problems] == [("pool.2", True)]
