"""What no node of a Ray cluster has is said at once, not after a minute."""

from __future__ import annotations

from typing import Any

import pytest

from thalweg.deploy.cluster.ray_host import ray_options, unplaceable


def node(
    address: str, *, alive: bool = True, labels: dict[str, str] | None = None, **resources: float
) -> dict[str, Any]:
    return {"Alive": alive, "NodeManagerAddress": address, "Resources": resources, "Labels": labels or {}}


NODES = [
    node("10.0.0.1", CPU=8, GPU=1, camera=1, labels={"zone": "here"}),
    node("10.0.0.2", CPU=16),
    node("10.0.0.3", alive=False, CPU=64, GPU=8),
]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cpus": 16},
        {"gpus": 1, "cpus": 8},
        {"resources": {"camera": 1}},
        {"labels": {"zone": "here"}},
        {"labels": {"zone": "!there"}},
    ],
)
def test_what_one_node_has_can_be_placed(options: dict[str, Any]) -> None:
    assert unplaceable(ray_options(options), NODES) == ""


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"gpus": 2}, "it asks for 2 GPU, and of the 2 nodes the most is 1 at 10.0.0.1"),
        ({"cpus": 32}, "it asks for 32 CPU, and of the 2 nodes the most is 16 at 10.0.0.2"),
        ({"resources": {"lidar": 1}}, "it asks for 1 lidar, and of the 2 nodes none has any"),
        ({"gpus": 1, "cpus": 16}, "no one of the 2 nodes has all that it asks for: {'CPU': 16, 'GPU': 1}"),
        ({"labels": {"zone": "there"}}, "no one of the 2 nodes has all that it asks for: {'zone': 'there'}"),
    ],
)
def test_what_no_node_has_is_named_with_the_most_there_is(options: dict[str, Any], why: str) -> None:
    assert unplaceable(ray_options(options), NODES) == why


def test_where_no_node_lives_nothing_can_be_placed() -> None:
    assert "of the 0 nodes none has any" in unplaceable(ray_options({"cpus": 1}), [NODES[2]])
