"""A node may say anything of itself: the hub goes on, and can still be operated."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import require_package
from tests.deploy.fleet.hubs import ask, hub_at
from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.hub.overview import overview
from thalweg.deploy.fleet.hub.page import HubPage
from thalweg.deploy.fleet.hub.state import HubState
from thalweg.deploy.fleet.hub.told import bounded, number_in
from thalweg.deploy.fleet.node.asking import HubClient

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[HubState]:
    require_package("cryptography", "hub")
    found = HubState(tmp_path / "hub")
    found.nodes["drone-7"] = {"revoked": False, "desired": 0, "serials": {}, "instances": []}
    (tmp_path / "hub/nodes/drone-7").mkdir()
    yield found
    found.close()


@given(anything)
def test_whatever_is_told_is_json_after(value: Any) -> None:
    json.dumps(bounded(value), allow_nan=False)


@pytest.mark.parametrize(
    "report",
    [
        {"rollout": 7, "backlog": [1], "deadlines": "no", "pipeline": {"a": b"b"}, "vehicle": float("nan")},
        {"rollout": {"current": b"x", "reason": ["y"] * 999}, "backlog": {"events": {"records": "many"}}},
        {"deadlines": {"made": -1, "late": None}, "instance": 5, "<script>": "<script>"},
    ],
)
def test_a_node_that_tells_nonsense_is_shown_and_can_be_revoked(state: HubState, report: dict[str, Any]) -> None:
    state.heard("drone-7", report, 0.0)
    json.dumps(overview(state))
    assert b"<script>" not in asyncio.run(HubPage(state)._index(None)).body  # type: ignore[arg-type]
    state.revoke("drone-7")
    assert overview(state)[0]["state"] == "revoked"


def test_a_restored_hub_goes_beyond_generations_it_no_longer_knows_of(state: HubState) -> None:
    state.heard("drone-7", {"rollout": {"highest": 41}}, 0.0)
    assert state.newest() == 41
    state.heard("drone-7", {"rollout": {"highest": 10**12}}, 0.0)
    assert state.newest() == 0


@pytest.mark.parametrize("streams", [5, "abc", [[1]], [["a", "b", "c"]], [[1, "s", -1]], [[-1, "s", 1]]])
def test_streams_that_are_none_are_left_out(tmp_path: Path, streams: Any) -> None:
    require_package("aiohttp", "hub")

    def report(client: HubClient) -> Any:
        return client.call("/v1/report", {"boot": 1, "instance": "a", "streams": streams})

    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            identity = await hub.node("drone-7")
            assert (await asyncio.to_thread(ask, identity, certs.WORKING, report))["marks"] == []

    asyncio.run(case())


def test_a_number_is_found_or_is_none() -> None:
    assert number_in({"a": {"b": 3}}, "a", "b") == 3
    assert [number_in(value, "a") for value in (None, {"a": -1}, {"a": "3"}, {"a": True}, 7)] == [0] * 5
