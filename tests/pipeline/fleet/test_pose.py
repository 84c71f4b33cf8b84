"""Where it was, between what it told."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.fleet.pose import EXTRAPOLATED_NS, Pose, Track, distance_m

MS = 1_000_000
SPEED = 20.0
METRE = math.degrees(1 / 6_371_008.8)


def truth(time_ns: int) -> Pose:
    """North at 20 m/s."""
    return Pose(
        time_ns=time_ns, latitude=47 + SPEED * time_ns / 1e9 * METRE, longitude=8, altitude_m=50, north_m_s=SPEED
    )


def track(*times_ms: int) -> Track:
    found = Track()
    for ms in times_ms:
        found.add(truth(ms * MS))
    return found


@given(st.integers(0, 1000 * MS + EXTRAPOLATED_NS))
def test_at_20_m_s_it_is_known_to_a_decimetre(time_ns: int) -> None:
    found = track(*range(0, 1001, 200)).at(time_ns)
    assert found is not None
    assert distance_m(found, truth(time_ns)) < 0.1


def test_beyond_200_ms_in_a_gap_and_before_the_first_there_is_no_place() -> None:
    assert track(0, 200).at(400 * MS) is not None
    assert track(0, 200).at(401 * MS) is None
    assert track(0, 2001).at(1000 * MS) is None
    assert track(100).at(99 * MS) is None


def test_headings_turn_the_short_way_and_the_date_line_is_crossed() -> None:
    found = Track()
    found.add(Pose(time_ns=0, latitude=0, longitude=179.9, altitude_m=0, heading=350))
    found.add(Pose(time_ns=2 * MS, latitude=0, longitude=-179.9, altitude_m=0, heading=20))
    middle = found.at(MS)
    assert middle is not None
    assert middle.heading == pytest.approx(5)
    assert abs(middle.longitude) == pytest.approx(180)


def test_a_pose_out_of_order_is_left_out() -> None:
    found = track(100)
    assert not found.add(truth(50 * MS))
    assert found.at(50 * MS) is None


def test_uncertainty_is_largest_in_the_middle_of_a_gap() -> None:
    middle, near = track(0, 1000).at(500 * MS), track(0, 1000).at(10 * MS)
    assert middle is not None and near is not None
    assert middle.uncertainty_m > near.uncertainty_m
