"""Position and state of a vehicle from MAVLink messages, which are untrusted and validated here.

Theory of operation. Messages come as names and plain fields, with the time they arrived. Only one vehicle is believed,
the first whose heartbeat is an autopilot's, or the one that was asked for; others are counted. A number that is not
finite or out of range is ignored, and so is a position that cannot have been reached since the last one. Where the
vehicle repeats such positions for `INSIST_NS`, they are accepted: then the earlier one was wrong. The autopilot is the
component of that heartbeat, which need not be the one that MAVLink has for it (Betaflight is 200), as long as it is not
said to be a ground station or a part of a vehicle, which may name an autopilot all the same. Where the vehicle has that
one, too, it is believed in place of any other.

    heartbeat            armed, mode                 system id and component of the autopilot
    global_position_int  a pose, and a `Telemetry`   degrees · 1e7, mm, cm/s, centidegrees
    attitude             roll, pitch, yaw            radians
    sys_status           battery                     mV, percent

The autopilot counts milliseconds since it was started. What that is by our clock is the smallest difference between
arrival and count over the last minute: that message waited least on its way. A count that goes back by more than
a second is an autopilot that was started anew: everything known of it is forgotten.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from thalweg.pipeline.errors import PayloadError
from thalweg.pipeline.fleet.pose import Pose, Position, distance_m
from thalweg.pipeline.payload import Payload

_MS, _S = 1_000_000, 1_000_000_000
AUTOPILOT: Final = 1
"""MAV_COMP_ID_AUTOPILOT1."""
_ARMED: Final = 128  # MAV_MODE_FLAG_SAFETY_ARMED
_NO_AUTOPILOT: Final = 8  # MAV_AUTOPILOT_INVALID: a ground station, a camera
_NO_VEHICLES: Final = frozenset({6, 18, 26, 27, *range(30, 35), *range(36, 43)})
"""MAV_TYPE of ground stations, computers on board, gimbals, transponders, cameras and other parts."""
FASTEST_M_S = 350.0
INSIST_NS = 3 * _S
OFFSET_NS = 60 * _S
REBOOT_MS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry(Position, Payload):
    """Where a vehicle is and how, at a moment: the packet's time. `height_m`: above where it started. `roll`, `pitch`:
    radians, `battery`: share 0…1, `armed`: each None where unknown. `mode`: the autopilot's own number. Raises
    PayloadError on what is not finite or not on Earth.
    """

    height_m: float = 0.0
    roll: float | None = None
    pitch: float | None = None
    battery: float | None = None
    armed: bool | None = None
    mode: int = 0

    def __post_init__(self) -> None:
        numbers = (self.latitude, self.longitude, self.altitude_m, self.height_m, self.north_m_s, self.east_m_s)
        if not all(map(math.isfinite, numbers)) or not (abs(self.latitude) <= 90 and abs(self.longitude) <= 180):
            raise PayloadError(f"a vehicle at {self.latitude}°, {self.longitude}°: that is nowhere on Earth")


class Vehicle:
    """Told of messages; gives a telemetry and its time, ns of our clock, with each position that is believed.

    `system`: the id to believe; 0: the first autopilot that is heard. `counts`: what was left out, by reason.
    `armed`: what its last heartbeat said, None before the first; `heartbeats`: how many were believed.
    """

    def __init__(self, system: int = 0) -> None:
        self.system = system
        self.counts: Counter[str] = Counter()
        self.armed: bool | None = None
        self.heartbeats = 0
        self.mode = 0
        self._component, self._met = AUTOPILOT, False
        self._battery: float | None = None
        self._roll: float | None = None
        self._pitch: float | None = None
        self._offsets: deque[tuple[int, int]] = deque()
        self._boot_ms = 0
        self._last: Pose | None = None
        self._doubted_ns: int | None = None

    def hear(
        self, kind: str, fields: Mapping[str, Any], system: int, component: int, now_ns: int
    ) -> tuple[int, Telemetry] | None:
        """A message, in lower case as MAVLink names it."""
        if kind == "heartbeat" and _is_autopilot(fields, component):
            self._meet(system, component)
        if (system, component) != (self.system, self._component):
            self.counts["other_system"] += 1
            return None
        if kind == "heartbeat":
            self.armed = bool(int(fields["base_mode"]) & _ARMED)
            self.heartbeats += 1
            self.mode = int(fields["custom_mode"])
        elif kind == "attitude":
            self._roll, self._pitch = _angle(fields["roll"]), _angle(fields["pitch"])
        elif kind == "sys_status":
            left = int(fields["battery_remaining"])
            self._battery = left / 100 if 0 <= left <= 100 else None
        elif kind == "global_position_int":
            return self._position(fields, now_ns)
        return None

    def _meet(self, system: int, component: int) -> None:
        """An autopilot's heartbeat: the first one, and AUTOPILOT of the same vehicle, are believed from now on."""
        first = not self._met and system == (self.system or system)
        if first or (system == self.system and component == AUTOPILOT):
            self.system, self._component, self._met = system, component, True

    def _position(self, fields: Mapping[str, Any], now_ns: int) -> tuple[int, Telemetry] | None:
        time_ns = self._time_of(int(fields["time_boot_ms"]), now_ns)
        heading = int(fields["hdg"])
        try:
            found = Telemetry(
                latitude=fields["lat"] / 1e7,
                longitude=fields["lon"] / 1e7,
                altitude_m=fields["alt"] / 1e3,
                height_m=fields["relative_alt"] / 1e3,
                north_m_s=fields["vx"] / 100,
                east_m_s=fields["vy"] / 100,
                heading=heading / 100 if 0 <= heading <= 36_000 else 0.0,
                roll=self._roll,
                pitch=self._pitch,
                battery=self._battery,
                armed=self.armed,
                mode=self.mode,
            )
        except PayloadError:
            self.counts["out_of_range"] += 1
            return None
        if found.latitude == found.longitude == 0.0:
            self.counts["no_fix"] += 1
            return None
        pose = pose_of(found, time_ns)
        if self._last is not None and time_ns <= self._last.time_ns:
            self.counts["out_of_order"] += 1
            return None
        if not self._believed(pose):
            self.counts["implausible"] += 1
            return None
        self._last = pose
        return time_ns, found

    def _believed(self, pose: Pose) -> bool:
        last = self._last
        if last is None:
            return True
        passed_s = (pose.time_ns - last.time_ns) / 1e9
        if distance_m(last, pose) <= FASTEST_M_S * passed_s + 50.0:
            self._doubted_ns = None
            return True
        if self._doubted_ns is None:
            self._doubted_ns = pose.time_ns
        if pose.time_ns - self._doubted_ns < INSIST_NS:
            return False
        self._doubted_ns = None
        return True

    def _time_of(self, boot_ms: int, now_ns: int) -> int:
        """By our clock, when the autopilot counted `boot_ms`."""
        if boot_ms < self._boot_ms - REBOOT_MS:
            self.counts["reboots"] += 1
            self._offsets.clear()
            self._last = self._doubted_ns = None
        self._boot_ms = max(boot_ms, self._boot_ms) if self._offsets else boot_ms
        offset_ns = now_ns - boot_ms * _MS
        while self._offsets and self._offsets[-1][1] >= offset_ns:
            self._offsets.pop()
        self._offsets.append((now_ns, offset_ns))
        while now_ns - self._offsets[0][0] > OFFSET_NS:
            self._offsets.popleft()
        return boot_ms * _MS + self._offsets[0][1]


def pose_of(telemetry: Telemetry, time_ns: int) -> Pose:
    """Where it says it is."""
    return Pose(time_ns=time_ns, **{field.name: getattr(telemetry, field.name) for field in fields(Position)})


def _is_autopilot(heartbeat: Mapping[str, Any], component: int) -> bool:
    """Whether this is the heartbeat of one; what it says to be does not matter where it is AUTOPILOT."""
    named = heartbeat.get("autopilot") != _NO_AUTOPILOT
    return named and (component == AUTOPILOT or heartbeat.get("type") not in _NO_VEHICLES)


def _angle(value: float) -> float | None:
    return float(value) if math.isfinite(value) and abs(value) <= 2 * math.pi else None
