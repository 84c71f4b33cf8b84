"""How far off a picture's place is, at 20 m/s: interpolated by the autopilot's clock, beside the nearest message.

Simulated: a circle of 300 m, told `hz` times a second over a link that delays each message by 10 ms and, at random,
20 ms more on average (exponential). Both systems get the same messages; `nearest` takes the one that arrived nearest to
the picture. GPS itself is taken to be right.
"""

from __future__ import annotations

import math
import random
from typing import Any

from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.pipeline.fleet.pose import Pose, Track, distance_m
from thalweg.pipeline.fleet.telemetry import AUTOPILOT, Vehicle, pose_of

RADIUS_M, SPEED_M_S, SECONDS, PICTURES = 300.0, 20.0, 60, 1000
_MS = 1_000_000
_DEGREE_M = 111_195.0


def measure(result: Result, seeds: int) -> None:
    """Add the rows."""
    for hz in (2, 5, 10):
        found = [_fly(hz, seed) for seed in range(seeds)]
        for system, at in ((OURS, 0), ("nearest", 1)):
            errors = [error for flight in found for error in flight[at]]
            result.add(f"geotag {hz} Hz", system, len(errors), "m", error_p95=quantile(errors, 0.95))


def _fly(hz: int, seed: int) -> tuple[list[float], list[float]]:
    chance = random.Random(f"{seed}/{hz}")
    vehicle, track = Vehicle(1), Track(keep=SECONDS * hz + 1)
    arrived: list[tuple[int, Pose]] = []
    now_ns = 0
    for number in range(SECONDS * hz):
        boot_ms = round(1000 * number / hz)
        now_ns = max(now_ns, round(boot_ms * _MS + 10 * _MS + chance.expovariate(1 / 20) * _MS))
        told = vehicle.hear("global_position_int", _message(boot_ms), 1, AUTOPILOT, now_ns)
        if told is not None:
            pose = pose_of(told[1], told[0])
            track.add(pose)
            arrived.append((now_ns, pose))
    ours, nearest = [], []
    for _ in range(PICTURES):
        time_ns = round(chance.uniform(2, SECONDS - 2) * 1e9)
        truth = _pose(time_ns)
        found = track.at(time_ns)
        if found is not None:
            ours.append(distance_m(found, truth))
        nearest.append(distance_m(min(arrived, key=lambda one: abs(one[0] - time_ns))[1], truth))
    return ours, nearest


def _pose(time_ns: int) -> Pose:
    angle = SPEED_M_S / RADIUS_M * time_ns / 1e9
    north, east = RADIUS_M * math.sin(angle), RADIUS_M * (1 - math.cos(angle))
    return Pose(
        time_ns=time_ns,
        latitude=47 + north / _DEGREE_M,
        longitude=8 + east / (_DEGREE_M * math.cos(math.radians(47))),
        altitude_m=500.0,
        north_m_s=SPEED_M_S * math.cos(angle),
        east_m_s=SPEED_M_S * math.sin(angle),
    )


def _message(boot_ms: int) -> dict[str, Any]:
    pose = _pose(boot_ms * _MS)
    return {
        "time_boot_ms": boot_ms,
        "lat": round(pose.latitude * 1e7),
        "lon": round(pose.longitude * 1e7),
        "alt": 500_000,
        "relative_alt": 0,
        "vx": round(pose.north_m_s * 100),
        "vy": round(pose.east_m_s * 100),
        "hdg": 0,
    }
