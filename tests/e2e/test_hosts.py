"""Between two hosts over gRPC: a slow consumer gets fresh frames, and a blocked producer is slowed and stays small."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import require_lab, require_package
from thalweg.deploy.bench import run_bench


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    require_lab()
    for module in ("grpc", "cryptography"):
        require_package(module, "grpc")
    folder: Path = tmp_path_factory.mktemp("hosts")
    result = run_bench("freshness", folder / "b.json", quick=True, across="hosts")
    assert {row.case for row in result.rows} == {"hosts"}
    return {row.metric: row.value for row in result.rows}


def test_frames_are_dropped_at_the_source_and_do_not_grow_old(found: dict[str, float]) -> None:
    assert found["dropped"] > 60
    assert found["age_p50"] < 500  # with the link's window full of frames it would be 0.7 s, unbounded 2 s and more


def test_a_block_channel_slows_its_producer_to_its_consumer(found: dict[str, float]) -> None:
    assert found["block_producer"] < 1.1 * found["block_consumer_at_most"]


def test_a_block_channel_keeps_both_ends_small(found: dict[str, float]) -> None:
    unbounded_mb = 150 * 480 * 640 * 3 / 1e6
    assert found["block_producer_growth"] < 0.5 * unbounded_mb
    assert found["block_consumer_growth"] < 0.5 * unbounded_mb
