"""Where a vehicle was when a picture was taken: poses put between those that its autopilot told.

A pose between two that were told is interpolated: positions on a straight line, headings the short way round. One
after the newest is extrapolated with the last velocity, for 200 ms at most; beyond that there is none, for a wrong
place is worse than no place. Times are ns of the pipeline's clock.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, replace

EXTRAPOLATED_NS = 200_000_000
GAP_NS = 2_000_000_000
_EARTH_M = 6_371_008.8
_STRAY = 0.5
"""Standard deviation of a vehicle's acceleration, in m/s² per second of gap squared: what interpolation cannot know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """`latitude`, `longitude`: degrees, WGS 84. `altitude_m`: above mean sea level. Velocities north and east, m/s.
    `heading`: degrees from north, 0…360.
    """

    latitude: float
    longitude: float
    altitude_m: float
    north_m_s: float = 0.0
    east_m_s: float = 0.0
    heading: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose(Position):
    """A position at a time. `uncertainty_m`: one standard deviation."""

    time_ns: int
    uncertainty_m: float = 1.0


class Track:
    """The newest poses, in order of time; one that is older than the newest is left out."""

    def __init__(self, keep: int = 256) -> None:
        self._poses: deque[Pose] = deque(maxlen=keep)

    def add(self, pose: Pose) -> bool:
        """Whether it was of use: it is newer than all before."""
        if self._poses and pose.time_ns <= self._poses[-1].time_ns:
            return False
        self._poses.append(pose)
        return True

    def at(self, time_ns: int) -> Pose | None:
        """Where it was; None before the oldest, in a gap of over 2 s, and 200 ms after the newest."""
        poses = self._poses
        if not poses or time_ns < poses[0].time_ns:
            return None
        at = bisect_right(poses, time_ns, key=lambda pose: pose.time_ns)
        before = poses[at - 1]
        if at == len(poses):
            past_ns = time_ns - before.time_ns
            return _moved(before, past_ns) if past_ns <= EXTRAPOLATED_NS else None
        after = poses[at]
        gap_ns = after.time_ns - before.time_ns
        return _between(before, after, (time_ns - before.time_ns) / gap_ns, time_ns) if gap_ns <= GAP_NS else None


def distance_m(a: Pose, b: Pose) -> float:
    """Over the ground, on a sphere (haversine)."""
    lat_a, lat_b = math.radians(a.latitude), math.radians(b.latitude)
    d_lat, d_lon = lat_b - lat_a, math.radians(b.longitude - a.longitude)
    h = math.sin(d_lat / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(d_lon / 2) ** 2
    return 2 * _EARTH_M * math.asin(min(1.0, math.sqrt(h)))


def _between(a: Pose, b: Pose, share: float, time_ns: int) -> Pose:
    def mix(x: float, y: float) -> float:
        return x + share * (y - x)

    turn = (b.heading - a.heading + 180) % 360 - 180
    across = (b.longitude - a.longitude + 180) % 360 - 180
    gap_s = (b.time_ns - a.time_ns) / 1e9
    return Pose(
        time_ns=time_ns,
        latitude=mix(a.latitude, b.latitude),
        longitude=_wrapped(a.longitude + share * across),
        altitude_m=mix(a.altitude_m, b.altitude_m),
        north_m_s=mix(a.north_m_s, b.north_m_s),
        east_m_s=mix(a.east_m_s, b.east_m_s),
        heading=(a.heading + share * turn) % 360,
        uncertainty_m=mix(a.uncertainty_m, b.uncertainty_m) + _STRAY * gap_s**2 * share * (1 - share) / 2,
    )


def _moved(pose: Pose, past_ns: int) -> Pose:
    past_s = past_ns / 1e9
    north = math.degrees(pose.north_m_s * past_s / _EARTH_M)
    east = math.degrees(pose.east_m_s * past_s / (_EARTH_M * max(1e-6, math.cos(math.radians(pose.latitude)))))
    return replace(
        pose,
        time_ns=pose.time_ns + past_ns,
        latitude=max(-90.0, min(90.0, pose.latitude + north)),
        longitude=_wrapped(pose.longitude + east),
        uncertainty_m=pose.uncertainty_m + _STRAY * past_s**2 / 2,
    )


def _wrapped(longitude: float) -> float:
    return (longitude + 180) % 360 - 180
