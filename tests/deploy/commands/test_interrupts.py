"""The second Ctrl-C ends a run, whatever hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FILE = """
name: hanging
stages:
  src: {{use: "hanging_stages:{source}"}}
  sink: {{use: "hanging_stages:{sink}"}}
connections: [src -> sink]
placement: {{sink: {place}}}
"""
STAGES = Path(__file__).parent / "hanging_stages.py"


@pytest.mark.real
@pytest.mark.parametrize(
    ("source", "sink", "place"),
    [
        ("Ticks", "HangsOnTheLoop", "local"),
        ("Ticks", "Spins", "local"),
        ("Ticks", "HangsInAThread", "local"),
        ("Ticks", "HangsInOpening", "local"),
        ("Few", "HangsInClosing", "local"),
        ("Deaf", "Takes", "local"),
        ("Few", "HangsInClosing", "subprocess"),
        ("Ticks", "HangsOnTheLoop", "subprocess"),
    ],
)
def test_the_second_ctrl_c_ends_a_run_whatever_hangs(source: str, sink: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "hanging_stages.py").write_text(STAGES.read_text(encoding="utf-8"), encoding="utf-8")
    file, hangs = tmp_path / "hanging.yaml", tmp_path / "hangs"
    file.write_text(FILE.format(source=source, sink=sink, place=place), encoding="utf-8")
    command = [sys.executable, "-m", "thalweg.deploy", "run", str(file)]
    environment = os.environ | {"HANGS": str(hangs)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, cwd=tmp_path) as run:
        try:
            until_s = time.monotonic() + 60
            while not hangs.exists():
                assert run.poll() is None and time.monotonic() < until_s
                time.sleep(0.02)
            run.send_signal(signal.SIGINT)
            time.sleep(0.3)
            run.send_signal(signal.SIGINT)
            began_s = time.monotonic()
            assert run.wait(25) == 130
            assert time.monotonic() - began_s < 15  # what hangs does so for 30 s; alone it is 2 s
        finally:
            run.kill()
    pids = [int(line) for line in hangs.read_text(encoding="utf-8").split()]
    until_s = time.monotonic() + 5
    while (left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]) and time.monotonic() < until_s:
        time.sleep(0.02)
    assert left == []
