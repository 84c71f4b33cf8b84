"""What is believed of what an autopilot, or somebody else, tells."""

from __future__ import annotations

from typing import Any

import pytest

from thalweg.pipeline.errors import PayloadError
from thalweg.pipeline.fleet.telemetry import AUTOPILOT, Telemetry, Vehicle

MS, S = 1_000_000, 1_000_000_000
ATTITUDE = {"roll": 0.1, "pitch": -0.2}


def position(boot_ms: int, lat: float = 47.0, lon: float = 8.0, **more: int) -> dict[str, Any]:
    told = {"time_boot_ms": boot_ms, "lat": round(lat * 1e7), "lon": round(lon * 1e7), "alt": 500_000}
    return {**told, "relative_alt": 20_000, "vx": 100, "vy": 200, "hdg": 9000, **more}


def heartbeat(armed: bool = False, autopilot: int = 3) -> dict[str, Any]:
    return {"base_mode": 128 if armed else 0, "custom_mode": 4, "autopilot": autopilot}


def vehicle() -> Vehicle:
    found = Vehicle()
    found.hear("heartbeat", heartbeat(armed=True), 1, AUTOPILOT, 0)
    return found


def hear(it: Vehicle, boot_ms: int, now_ns: int, system: int = 1, **more: Any) -> tuple[int, Telemetry] | None:
    return it.hear("global_position_int", position(boot_ms, **more), system, AUTOPILOT, now_ns)


def test_a_position_carries_all_that_was_told() -> None:
    it = vehicle()
    it.hear("attitude", ATTITUDE, 1, AUTOPILOT, 0)
    it.hear("sys_status", {"battery_remaining": 80}, 1, AUTOPILOT, 0)
    told = hear(it, 1000, 5 * S)
    assert told is not None
    assert told[1] == Telemetry(
        latitude=47.0,
        longitude=8.0,
        altitude_m=500.0,
        height_m=20.0,
        north_m_s=1.0,
        east_m_s=2.0,
        heading=90.0,
        roll=0.1,
        pitch=-0.2,
        battery=0.8,
        armed=True,
        mode=4,
    )


def test_times_are_the_autopilots_by_our_clock_as_the_quickest_message_shows_it() -> None:
    it = vehicle()
    for boot_ms, delay_ms in ((1000, 30), (1200, 5), (1400, 60)):
        told = hear(it, boot_ms, (9000 + boot_ms + delay_ms) * MS)
    assert told is not None and told[0] == (9000 + 1400 + 5) * MS


def test_another_system_is_not_believed_and_a_ground_station_is_no_autopilot() -> None:
    it = Vehicle()
    it.hear("heartbeat", heartbeat(autopilot=8), 255, AUTOPILOT, 0)
    it.hear("heartbeat", heartbeat(), 7, AUTOPILOT, 0)
    assert it.system == 7
    assert hear(it, 1000, S, system=8) is None
    assert it.counts["other_system"] == 2
    assert hear(it, 1000, S, system=7) is not None


def test_the_autopilot_is_the_component_whose_heartbeat_comes_first_or_the_one_that_mavlink_has_for_it() -> None:
    it = Vehicle()
    it.hear("heartbeat", heartbeat(autopilot=8), 0, 100, 0)
    it.hear("heartbeat", heartbeat(autopilot=0), 0, 200, 0)
    it.hear("heartbeat", heartbeat(autopilot=0), 0, 191, 0)
    assert it.hear("global_position_int", position(1000), 0, 200, S) is not None
    assert it.hear("global_position_int", position(1100), 0, 191, S) is None
    it.hear("heartbeat", heartbeat(), 0, AUTOPILOT, 0)
    it.hear("heartbeat", heartbeat(autopilot=0), 0, 200, 0)
    assert it.hear("global_position_int", position(1200), 0, 200, 2 * S) is None
    assert it.hear("global_position_int", position(1300), 0, AUTOPILOT, 2 * S) is not None


@pytest.mark.parametrize(("system", "component", "kind"), [(255, 190, 6), (1, 191, 18), (1, 154, 26), (1, 100, 30)])
def test_a_ground_station_or_a_companion_that_gives_an_autopilot_is_none(
    system: int, component: int, kind: int
) -> None:
    it = Vehicle()
    it.hear("heartbeat", {**heartbeat(autopilot=0), "type": kind}, system, component, 0)
    assert (it.system, it.armed, it.heartbeats) == (0, None, 0)
    it.hear("heartbeat", {**heartbeat(armed=True), "type": 2}, 1, AUTOPILOT, S)
    assert it.armed and hear(it, 1000, 2 * S) is not None


@pytest.mark.parametrize(
    ("more", "reason"),
    [({"lat": 91.0}, "out_of_range"), ({"lat": 0.0, "lon": 0.0}, "no_fix"), ({"lat": 48.0}, "implausible")],
)
def test_a_place_that_cannot_be_is_left_out(more: dict[str, Any], reason: str) -> None:
    it = vehicle()
    hear(it, 1000, S)
    assert hear(it, 1200, S + 200 * MS, **more) is None
    assert it.counts[reason] == 1


def test_a_vehicle_that_insists_is_believed_in_the_end() -> None:
    it = vehicle()
    hear(it, 0, 0)
    believed = [hear(it, ms, ms * MS, lat=48.0) is not None for ms in range(200, 4000, 200)]
    assert not any(believed[:15]) and all(believed[15:])


def test_attitudes_and_batteries_that_are_none_are_not_told() -> None:
    it = vehicle()
    it.hear("attitude", {"roll": float("nan"), "pitch": 99.0}, 1, AUTOPILOT, 0)
    it.hear("sys_status", {"battery_remaining": -1}, 1, AUTOPILOT, 0)
    told = hear(it, 1000, S)
    assert told is not None and (told[1].roll, told[1].pitch, told[1].battery) == (None, None, None)


def test_an_autopilot_that_was_started_anew_is_followed() -> None:
    it = vehicle()
    hear(it, 600_000, S)
    told = hear(it, 500, 2 * S)
    assert told is not None and told[0] == 2 * S
    assert it.counts["reboots"] == 1


def test_a_message_out_of_order_is_left_out() -> None:
    it = vehicle()
    hear(it, 1000, S)
    assert hear(it, 900, S + 100 * MS) is None
    assert it.counts["out_of_order"] == 1


def test_a_telemetry_is_somewhere_on_earth() -> None:
    with pytest.raises(PayloadError, match="nowhere on Earth"):
        Telemetry(latitude=float("nan"), longitude=0, altitude_m=0)


def test_whether_it_is_armed_is_known_from_the_first_heartbeat_on() -> None:
    it = Vehicle(system=1)
    first = hear(it, 1000, 5 * S)
    it.hear("heartbeat", heartbeat(armed=False), 1, AUTOPILOT, 0)
    second = hear(it, 2000, 6 * S)
    assert first is not None and second is not None
    assert (first[1].armed, second[1].armed) == (None, False)
