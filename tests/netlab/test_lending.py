"""A lent worker on a host of its own, over a link that goes away one way."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_lab, require_package
from tests.netlab import Link, lab
from thalweg.deploy.bench.fleet.cloud import Cloud

HERE = Path(__file__).parent
NORMAL, GONE = Link(delay_ms=20, jitter_ms=2), Link(outages=((0, 3600),))


@pytest.mark.parametrize("way", ["towards the lender", "from the lender"])
def test_a_partition_one_way_sends_a_stage_home_without_losing_anything(tmp_path: Path, way: str) -> None:
    require_lab()
    require_package("cryptography", "edge")
    with lab("edge", "fog", link=NORMAL, seed=3) as net, (tmp_path / "edge.log").open("wb") as log:
        cloud = Cloud(tmp_path, net.fog.address)
        cloud.start(net.fog.command([]))
        try:
            moved = net.edge.python(
                "-m", "tests.netlab.moving", tmp_path, stdout=subprocess.PIPE, stderr=log, text=True
            )
            told = _lines(moved)
            assert _wait(told, "away"), (tmp_path / "edge.log").read_text(encoding="utf-8")
            ends = {"towards the lender": ("edge", "fog"), "from the lender": ("fog", "edge")}
            net.change(GONE, *ends[way])
            assert _wait(told, "home"), told
            moved.terminate()
            moved.wait(30)
            assert _wait(told, "wrong 0"), told
        finally:
            cloud.end()


def _lines(process: Any) -> list[str]:
    found: list[str] = []
    threading.Thread(target=lambda: found.extend(iter(process.stdout.readline, "")), daemon=True).start()
    return found


def _wait(told: list[str], what: str) -> bool:
    until_s = time.monotonic() + 40
    while time.monotonic() < until_s:
        if told and told[-1].strip() == what:
            return True
        time.sleep(0.05)
    return False
