"""Betaflight's firmware as a program, flown by itself: `python -m tests.deploy.fleet.beside.betaflight PROGRAM FOLDER`.

To be run on a host of its own: it listens on every address. The firmware is set up by its command line and started
anew, as that makes it; its sensors and its GPS are told, a hundred times a second, of a flight to the north-east. Says
`flies` once its telemetry is there, on `TELEMETRY`. (Its sensors: `fdm_packet` of Betaflight 4.6.)
"""

from __future__ import annotations

import asyncio
import math
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

LATITUDE, LONGITUDE, ALTITUDE_M = 47.397742, 8.545594, 500.0
NORTH_M_S, EAST_M_S = 8.0, 6.0
COMMANDS, TELEMETRY, SENSORS = 5761, 5762, 9003
MAVLINK, GPS = 512, 2
SETTINGS = (
    "feature GPS",
    f"serial UART2 {MAVLINK} 115200 57600 57600 115200",
    f"serial UART3 {GPS} 115200 57600 0 115200",
    "set gps_provider = VIRTUAL",
    "save",
)
METRES_PER_DEGREE = 111_195.0
PROMPT = b"\n# "
READY_S = 90.0
_SENSED = struct.Struct("<18d")


def place(seconds: float) -> tuple[float, float]:
    """Latitude and longitude after so long."""
    north, east = NORTH_M_S * seconds, EAST_M_S * seconds
    return (
        LATITUDE + north / METRES_PER_DEGREE,
        LONGITUDE + east / METRES_PER_DEGREE / math.cos(math.radians(LATITUDE)),
    )


async def main(program: str, folder: Path) -> None:
    """Until it is killed."""
    async with asyncio.timeout(READY_S):
        first, reader, writer = await _started(program, folder, COMMANDS)
        await _set_up(reader, writer)
        await first.wait()
        flying, _, telemetry = await _started(program, folder, TELEMETRY)
        telemetry.close()
    print("flies", flush=True)
    async with asyncio.TaskGroup() as group:  # not sooner: a packet that comes before it is ready makes it crash
        sensing = group.create_task(_sense())
        print(f"Betaflight ended with {await flying.wait()}", file=sys.stderr, flush=True)
        sensing.cancel()


async def _started(
    program: str, folder: Path, port: int
) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader, asyncio.StreamWriter]:
    """With a connection to one of its ports. One that ends, since its ports are not free yet, is started again."""
    none = asyncio.subprocess.DEVNULL
    while True:
        process = await asyncio.create_subprocess_exec(program, cwd=folder, stdin=none, stdout=none, stderr=none)
        while process.returncode is None:
            try:
                return process, *await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)


async def _set_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """By its command line, which `#` begins."""
    while True:  # what comes before it is ready is lost
        writer.write(b"#")
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await reader.readuntil(PROMPT)
                break
    for line in SETTINGS:
        writer.write(line.encode() + b"\n")
        said = await reader.readuntil(PROMPT)
        if b"ERROR" in said:
            raise RuntimeError(said.decode())
    writer.close()


async def _sense() -> None:
    """Level, on its way."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("127.0.0.1", SENSORS))
    began_s = time.monotonic()
    while True:
        passed_s = time.monotonic() - began_s
        latitude, longitude = place(passed_s)
        turning, falling, level = (0.0, 0.0, 0.0), (0.0, 0.0, -9.80665), (1.0, 0.0, 0.0, 0.0)
        flying, there = (EAST_M_S, NORTH_M_S, 0.0), (longitude, latitude, ALTITUDE_M)
        transport.sendto(_SENSED.pack(passed_s, *turning, *falling, *level, *flying, *there, 95_000.0))
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
