"""A real Ray cluster on this machine, in processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import require_package

PROGRAM = """
import json, sys
from ray.cluster_utils import Cluster
head, *others = json.loads(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args={**head, "include_dashboard": False})
for node in others:
    cluster.add_node(**node)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@contextmanager
def ray_cluster(*nodes: dict[str, Any]) -> Iterator[str]:
    """The address of a cluster of these nodes, of which the first is its head: `num_cpus`, `resources`."""
    require_package("ray", "ray")
    command = [sys.executable, "-c", PROGRAM, json.dumps(nodes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        lines = (line.decode().strip() for line in process.stdout)
        try:
            yield next(line for line in lines if line.count(":") == 1 and line.rpartition(":")[2].isdigit())
        finally:
            process.stdin.close()
            process.wait(60)


@contextmanager
def ray_cluster_here(**head: Any) -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` with that head, made in this process, which everything here finds."""
    require_package("ray", "ray")
    import ray
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args=head)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", found.address)
        yield found
        ray.shutdown()
        found.shutdown()
