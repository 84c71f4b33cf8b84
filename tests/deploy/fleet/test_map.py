"""Where the fleet is, as a picture."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import require_package
from thalweg.deploy.fleet.hub.map import HEIGHT, LONGEST_BAR_PX, MARGIN, WIDTH, Spot, View, bar_m, drawn
from thalweg.deploy.fleet.hub.page import HubPage
from thalweg.deploy.fleet.hub.state import HubState
from thalweg.deploy.fleet.hub.told import place_in
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.transports.fleet.segment import Stored, pack

ZURICH = (47.38, 8.54)


def test_north_is_up_east_is_right_and_a_metre_is_as_long_both_ways() -> None:
    view = View([(60.0, 8.0), (60.01, 8.02)])
    (x, y), (right, up) = view.at((60.0, 8.0)), view.at((60.01, 8.02))
    assert right > x and up < y
    assert (right - x) / (y - up) == pytest.approx(1.0, rel=0.01)  # a degree of longitude is half as long there


def test_the_date_line_is_no_edge() -> None:
    view = View([(0.0, 179.999), (0.0, -179.999)])
    assert view.at((0.0, -179.999))[0] - view.at((0.0, 179.999))[0] == pytest.approx(222 * view.px_per_m, rel=0.01)


places = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@given(st.lists(places, min_size=1, max_size=20))
def test_everything_lies_within_the_frame(shown: list[tuple[float, float]]) -> None:
    view = View(shown)
    for x, y in map(view.at, shown):
        assert MARGIN - 1 <= x <= WIDTH - MARGIN + 1
        assert MARGIN - 1 <= y <= HEIGHT - MARGIN + 1


@given(st.floats(1e-6, 10))
def test_the_scale_is_a_round_number_and_as_long_as_it_fits(px_per_m: float) -> None:
    metres = bar_m(px_per_m)
    assert LONGEST_BAR_PX / 2.6 < metres * px_per_m <= LONGEST_BAR_PX * 1.001
    assert f"{metres:e}"[0] in "125"


def test_without_places_there_is_no_map_and_one_place_is_in_the_middle() -> None:
    assert "<circle" not in drawn([])
    assert f'cx="{WIDTH / 2:.1f}" cy="{HEIGHT / 2:.1f}"' in drawn([Spot(place=ZURICH, kind="here")])


def test_what_is_written_on_a_map_is_escaped() -> None:
    whole = drawn([Spot(place=ZURICH, kind="<b>", label="<b>", note="<b>", trail=[ZURICH])])
    assert "<b>" not in whole and whole.count("&lt;b&gt;") == 3


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(None, 1), ("1", 2), (float("nan"), 2), (90.1, 2), (0, -181), (0, float("inf"))]
)
def test_what_is_no_place_on_earth_is_not_shown(latitude: Any, longitude: Any) -> None:
    assert place_in({"latitude": latitude, "longitude": longitude}) is None
    assert place_in({"latitude": latitude}) is place_in(latitude) is None


@pytest.fixture
def state(tmp_path: Path) -> Iterator[HubState]:
    require_package("cryptography", "hub")
    found = HubState(tmp_path / "hub")
    for name in ("drone-7", "boat-1"):
        found.nodes[name] = {"revoked": False, "desired": 0, "serials": {}, "instances": ["a"]}
        (tmp_path / "hub/nodes" / name).mkdir()
    yield found
    found.close()


def test_the_page_shows_where_nodes_are_and_were_and_where_their_events_were(state: HubState) -> None:
    for north in range(3):
        state.heard("drone-7", {"instance": "a", "vehicle": {"latitude": 47.38 + north, "longitude": 8.54}}, 0.0)
    state.heard("boat-1", {"instance": "a", "vehicle": {"latitude": "nowhere"}}, 0.0)
    alert = msgpack.packb({"type": "LocatedDetections", "payload": {"latitude": 47.5, "longitude": 8.6}})
    plain = msgpack.packb({"type": "Token", "payload": {"text": "x"}})
    for number, payload in enumerate((alert, plain, b"\xc1")):
        stored = Stored(kind=SpoolClass.EVENTS, boot=1, stream="s", number=number, time_ns=0, payload=payload)
        state.records("boat-1").receive(pack(stored))
    page = asyncio.run(HubPage(state)._map(None)).text or ""  # type: ignore[arg-type]
    assert re.findall(r'circle class="(\w+)"', page) == ["event", "away"]
    assert page.count("<polyline") == 1 and ">drone-7</text>" in page and "<title>boat-1, s</title>" in page
