"""`thalweg serve --on ray`: a conversation on each node of a real cluster, on another when its host is killed, and on
with it when the cluster has lost its head; with their language model on one actor that all share.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import require_package
from tests.deploy.server.hosts.housing import asked, host_of
from thalweg.deploy.bench.dialogue.scripted import pipeline
from thalweg.deploy.bench.ports import free_port
from thalweg.transports.webrtc.client import Talker

ROOT = Path(__file__).parent.parent.parent
ADMIN = {"Authorization": "Bearer operator"}
PATIENCE_S = 90.0
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
marked = {"num_cpus": 1, "resources": {"thalweg": 1}}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
for _ in range(2):
    cluster.add_node(**marked)
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "behead":
        cluster.head_node.kill_gcs_server()
    else:
        cluster.add_node(**marked)
cluster.shutdown()
"""


SCALED = """
import sys
from ray.cluster_utils import AutoscalingCluster
node = {"resources": {"CPU": 1, "thalweg": 1}, "node_config": {}, "min_workers": 1, "max_workers": 2}
cluster = AutoscalingCluster(head_resources={"CPU": 0}, worker_node_types={"host": node}, idle_timeout_minutes=60)
cluster.start()
print("127.0.0.1:6379", flush=True)
sys.stdin.read()
cluster.shutdown()
"""
SHARED = """
workers:
  pool: {launcher: ray, shared: true}
placement:
  chat: pool
"""
KILLING = """
import sys
import ray
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
names = [a["name"] for a in ray.util.list_named_actors(all_namespaces=True) if a["namespace"] == "thalweg-shared"]
print(len(names))
for name in names:
    ray.kill(ray.get_actor(name, namespace="thalweg-shared"))
"""


@pytest.fixture
def cluster() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Address and process of a cluster: a head without, and two nodes with the resource that hosts go by."""
    require_package("ray", "ray")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        lines = (line.decode().strip() for line in process.stdout)
        yield next(line for line in lines if line.count(":") == 1 and line.rpartition(":")[2].isdigit()), process
        process.stdin.close()
        process.wait(60)


@contextmanager
def served(address: str, text: str, folder: Path) -> Iterator[str]:
    """A server of a pipeline on a cluster; its address."""
    file = folder / "scripted.yaml"
    file.write_text(text, encoding="utf-8")
    port = free_port()
    env = os.environ | {"PYTHONPATH": str(ROOT), "THALWEG_ADMIN_TOKEN": "operator", "XDG_STATE_HOME": str(folder)}
    command = [sys.executable, "-m", "thalweg.deploy", "serve", str(file), "--port", str(port)]
    with subprocess.Popen([*command, "--on", "ray", "--address", address], env=env) as front:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            front.terminate()
            assert front.wait(30) == 0


async def until_ready(http: aiohttp.ClientSession, url: str, count: int) -> dict[str, dict[str, Any]]:
    """The hosts, once so many would answer."""

    async def hosts() -> dict[str, dict[str, Any]]:
        try:
            async with http.get(f"{url}/hosts") as response:
                return {host["name"]: host for host in (await response.json())["hosts"] if host["state"] == "up"}
        except aiohttp.ClientError:
            return {}

    async with asyncio.timeout(PATIENCE_S):
        found = await hosts()
        while sum(not host["why"] for host in found.values()) < count:
            await asyncio.sleep(0.2)
            found = await hosts()
    return found


def test_conversations_live_on_the_nodes_and_outlive_one_of_them(
    cluster: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    address, process = cluster
    with served(address, pipeline(), tmp_path) as url:
        asyncio.run(conversations(url, process))


def test_conversations_of_two_nodes_share_one_actor_and_go_on_when_it_dies(
    cluster: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    address, _ = cluster

    async def talk(url: str) -> None:
        async with aiohttp.ClientSession(headers=ADMIN) as http:
            await until_ready(http, url, 2)
            async with Talker(url) as one, Talker(url) as other:
                assert host_of(one) != host_of(other)
                assert await asked(one, "red") == "red"
                assert await asked(other, "blue") == "blue"
                killing = [sys.executable, "-c", KILLING, address]
                killed = await asyncio.create_subprocess_exec(*killing, stdout=subprocess.PIPE)
                assert (await killed.communicate())[0] == b"1\n", "two nodes, and one worker that is shared"
                assert await asked(one, "green") == "red and green"
                assert await asked(other, "white") == "blue and white"

    with served(address, pipeline() + SHARED, tmp_path) as url:
        asyncio.run(talk(url))


async def conversations(url: str, cluster: subprocess.Popen[bytes]) -> None:
    async with aiohttp.ClientSession(headers=ADMIN) as http:
        found = await until_ready(http, url, 2)
        async with Talker(url) as one, Talker(url) as other:
            assert {host_of(one), host_of(other)} == set(found), "each of them has a node of its own"
            assert await asked(one, "red") == "red"
            await asyncio.sleep(1.0)
            home = host_of(one)
            os.kill(found[home]["pid"], signal.SIGKILL)
            killed_s = time.monotonic()
            async with asyncio.timeout(PATIENCE_S):
                while (await stands(http, url, one)) is not False:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await one.hang_up()
            await one.connect()
            assert time.monotonic() - killed_s < 5.0
            assert host_of(one) == host_of(other)
            assert await asked(one, "green") == "red and green"
            assert await asked(other, "blue") == "blue"
            assert cluster.stdin is not None
            cluster.stdin.write(b"\n")
            cluster.stdin.flush()
            await until_ready(http, url, 2)
            cluster.stdin.write(b"behead\n")
            cluster.stdin.flush()
            await asyncio.sleep(3.0)
            assert await asked(other, "white") == "blue and white", "conversations outlive the head of the cluster"
            await other.hang_up()
            async with Talker(url) as newcomer:
                assert await asked(newcomer, "black") == "black"


async def stands(http: aiohttp.ClientSession, url: str, talker: Talker) -> object:
    async with http.get(f"{url}/sessions/{talker.session}?key={talker.key}") as response:
        return (await response.json()).get("stands")
