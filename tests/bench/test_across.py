"""Across workers a pipeline comes to what it comes to in one process."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.deploy.cluster.test_restart import FAILING, run
from thalweg.deploy.cluster.deployment import Deployment

JOINED = FAILING / "joined.yaml"


async def nothing(deployment: Deployment, sink: Any) -> None:
    pass


def joined(seed: int, **places: str) -> list[str]:
    texts, outcome = asyncio.run(run(JOINED, {"seed": seed, **places}, nothing))
    assert outcome.problems == []
    return texts


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    places=st.fixed_dictionaries(
        {name: st.sampled_from(["local", "a", "b"]) for name in ("place_a", "place_b", "place_join")}
    ),
)
def test_a_join_of_streams_from_other_workers_gives_exactly_what_it_gives_in_one_process(
    seed: int, places: dict[str, str]
) -> None:
    together = joined(seed, place_a="local", place_b="local", place_join="local")
    assert len(together) == 40
    assert joined(seed + 1, **places) == together
