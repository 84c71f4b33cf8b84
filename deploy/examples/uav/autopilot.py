"""A simulated autopilot: flies a circle at 20 m/s and tells of it over MAVLink. Not a flight controller.

python autopilot.py [HOST:PORT] [--armed]
"""

from __future__ import annotations

import math
import socket
import sys
import time

from pymavlink.dialects.v20 import common

RADIUS_M, SPEED_M_S, EVERY_S = 300.0, 20.0, 0.1
HOME = 47.3769, 8.5417
METRES_PER_DEGREE = 111_195.0


def position(time_s: float) -> tuple[float, float, float, float, float]:
    """Latitude, longitude, velocity north and east in m/s, heading in degrees, so long after the start."""
    angle = SPEED_M_S / RADIUS_M * time_s
    north, east = RADIUS_M * math.sin(angle), RADIUS_M * (1 - math.cos(angle))
    latitude = HOME[0] + north / METRES_PER_DEGREE
    longitude = HOME[1] + east / (METRES_PER_DEGREE * math.cos(math.radians(HOME[0])))
    heading = math.degrees(angle) % 360
    return latitude, longitude, SPEED_M_S * math.cos(angle), SPEED_M_S * math.sin(angle), heading


def main(arguments: list[str]) -> None:
    """Until Ctrl-C."""
    armed = "--armed" in arguments
    places = [text for text in arguments if not text.startswith("--")] or ["127.0.0.1:14550"]
    host, _, port = places[0].rpartition(":")
    mav = common.MAVLink(None, srcSystem=1, srcComponent=1)
    began_s, number = time.monotonic(), 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        while True:
            passed_s = time.monotonic() - began_s
            lat, lon, north, east, heading = position(passed_s)
            told = [
                mav.global_position_int_encode(
                    int(passed_s * 1000), int(lat * 1e7), int(lon * 1e7), 500_000, 60_000,
                    int(north * 100), int(east * 100), 0, int(heading * 100),
                )
            ]  # fmt: skip
            if number % 10 == 0:
                told.append(mav.heartbeat_encode(2, 3, 128 if armed else 0, 4, 4))
            for message in told:
                out.sendto(message.pack(mav), (host, int(port)))
            number += 1
            time.sleep(max(0.0, began_s + number * EVERY_S - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1:])
