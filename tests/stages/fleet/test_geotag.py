"""Detections get the place where they were made."""

from __future__ import annotations

import math

from thalweg.pipeline.fleet.pose import Pose, distance_m
from thalweg.pipeline.fleet.telemetry import Telemetry
from thalweg.pipeline.payload import Detection, Detections
from thalweg.stages.fleet.geotag import Geotag, LocatedDetections
from thalweg.testing import packet, run_stage

MS = 1_000_000
METRE = math.degrees(1 / 6_371_008.8)
SEEN = Detections(items=(Detection(kind="person", text="", score=0.9, x=0, y=0, width=1, height=1),))


def north(time_ms: float) -> float:
    """Latitude of a vehicle that flies north at 20 m/s."""
    return 47.0 + 20 * time_ms / 1000 * METRE


def flight(*times_ms: int) -> list[object]:
    return [
        packet(Telemetry(latitude=north(ms), longitude=8, altitude_m=50, north_m_s=20), time=ms * MS) for ms in times_ms
    ]


def located(telemetry: list[object], *seen_ms: int) -> tuple[list[LocatedDetections], list[int]]:
    outcome = run_stage(
        Geotag(), {"telemetry": telemetry, "detections": [packet(SEEN, time=ms * MS) for ms in seen_ms]}
    )
    return outcome.payloads(), [emitted.at_ns // MS for emitted in outcome.emitted]


def off_m(found: LocatedDetections, time_ms: float) -> float:
    assert found.latitude is not None and found.longitude is not None
    there, truth = (
        Pose(time_ns=0, latitude=lat, longitude=8, altitude_m=0) for lat in (found.latitude, north(time_ms))
    )
    return distance_m(there, truth)


def test_at_20_m_s_the_place_is_right_to_a_decimetre_where_the_nearest_sample_is_two_metres_off() -> None:
    found, _ = located(flight(*range(0, 1001, 200)), 100, 300, 510, 890)
    assert [off_m(one, ms) < 0.1 for one, ms in zip(found, (100, 300, 510, 890), strict=True)] == [True] * 4
    assert off_m(found[0], 0) > 1.9


def test_a_picture_waits_for_the_pose_behind_it() -> None:
    _, emitted_ms = located(flight(0, 200, 400), 100)
    assert emitted_ms == [200]


def test_without_a_pose_in_time_there_is_no_place_and_order_is_kept() -> None:
    found, emitted_ms = located(flight(0, 200), 150, 390, 500, 900)
    assert [one.latitude is None for one in found] == [False, False, True, True]
    assert emitted_ms == sorted(emitted_ms)
