"""A node may say anything of itself: the hub goes on, and can still be operated."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import require_package
from tests.deploy.fleet.hubs import ask, hub_at
from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.hub.commanding import Commanding
from thalweg.deploy.fleet.hub.map import drawn
from thalweg.deploy.fleet.hub.overview import overview, spots
from thalweg.deploy.fleet.hub.page import HubPage
from thalweg.deploy.fleet.hub.records import Look
from thalweg.deploy.fleet.hub.serve import _calls
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
    json.dumps(overview(state), allow_nan=False)
    assert "<script>" not in drawn(spots(state, overview(state)))
    state.revoke("drone-7")
    assert overview(state)[0]["state"] == "revoked"


TAG = "<b>tag</b>"
FIELDS = ("boot", "pipeline", "backlog", "live", "refused", "deadlines", "vehicle", "instance", TAG)
TAGGED: dict[str, Any] = dict.fromkeys(FIELDS, TAG)


def test_no_field_that_a_node_tells_becomes_part_of_the_page(state: HubState) -> None:
    rollout = dict.fromkeys(("current", "last", "phase", "reason", "highest", TAG), TAG)
    for row in (TAGGED | {"rollout": rollout}, TAGGED | {"rollout": TAG}, {name: {TAG: TAG} for name in TAGGED}):
        state.heard("drone-7", row, 0.0)
        found = overview(state)[0]
        assert (found["boot"], found["current"], found["last"], found["rung"]) == (0, 0, 0, 0)
        assert "<b>" not in drawn(spots(state, overview(state)))


def test_records_are_read_from_the_disk_in_a_thread_of_their_own(
    state: HubState, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[threading.Thread] = []
    monkeypatch.setattr(state, "records", lambda name: readers.append(threading.current_thread()) or FakeRecords())
    calls, page = _calls(state, Commanding()), HubPage(state)
    request: Any = SimpleNamespace(match_info={"name": "drone-7"})
    for asked in (calls["nodes"](), calls["events"]("drone-7"), page._fleet(request), page._node(request)):
        asyncio.run(asked)
    assert len(readers) >= 4 and threading.main_thread() not in readers


class FakeRecords:
    """Nothing was received."""

    def look(self) -> Look:
        """See above."""
        return Look({}, {}, (), {})


def test_a_node_whose_records_cannot_be_read_hides_no_other(state: HubState, tmp_path: Path) -> None:
    folder = tmp_path / "hub/nodes/drone-7/records"
    folder.mkdir()
    (folder / "marks.json").write_bytes(b"{")
    (tmp_path / "hub/nodes/boat-1").mkdir()
    state.nodes["boat-1"] = dict(state.nodes["drone-7"])
    rows = overview(state)
    assert "marks.json cannot be read" in rows[1]["reason"] and rows[0]["reason"] == ""
    request: Any = SimpleNamespace(match_info={"name": "drone-7"})
    assert b"marks.json cannot be read" in asyncio.run(HubPage(state)._node(request)).body  # type: ignore[operator]


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
            assert (await asyncio.to_thread(ask, identity, certs.WORKING, report))["marks"] == ()

    asyncio.run(case())


def test_a_number_is_found_or_is_none() -> None:
    assert number_in({"a": {"b": 3}}, "a", "b") == 3
    assert [number_in(value, "a") for value in (None, {"a": -1}, {"a": "3"}, {"a": True}, 7)] == [0] * 5
