"""A lent worker on a host of its own, over a link that goes away one way."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_lab, require_package
from tests.deploy.fleet.cloud_chat import ANSWER
from tests.netlab import Link, lab
from thalweg.deploy.bench.fleet.cloud import Cloud
from thalweg.deploy.fleet.placing.lenders import LENDERS
from thalweg.transports.fleet.durable import replace_file

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


@pytest.mark.parametrize("way", ["both ways", "from the lender"])
def test_an_answer_of_the_cloud_is_finished_at_the_edge_when_the_link_goes_away(tmp_path: Path, way: str) -> None:
    require_lab()
    require_package("cryptography", "edge")
    with lab("edge", "fog", link=NORMAL, seed=3) as net, (tmp_path / "edge.log").open("wb") as log:
        cloud = Cloud(tmp_path, net.fog.address)
        told = [{"place": "cloud", "name": "fog-1", "host": cloud.host, "port": cloud.port}]
        replace_file(cloud.node / LENDERS, json.dumps(told).encode())
        cloud.start(net.fog.command([]))
        here, port = "tests.netlab.cloud_chat", 8123
        model = net.fog.python("-m", here, "serve", net.fog.address, str(port), stdout=subprocess.PIPE, text=True)
        try:
            assert _wait(_lines(model), "serves")
            url = f"http://{net.fog.address}:{port}/v1"
            talk = net.edge.python("-m", here, "talk", tmp_path, url, stdout=subprocess.PIPE, stderr=log, text=True)
            said = _lines(talk)
            assert _wait(said, "begun"), (tmp_path / "edge.log").read_text(encoding="utf-8")
            for ends in [("fog", "edge"), ("edge", "fog")][: 2 if way == "both ways" else 1]:
                net.change(GONE, *ends)
            talk.wait(120)
            found = json.loads(said[-1])
            assert found["said"] == [ANSWER] * 3 and found["place"] == "edge"
            assert found["remembered"] == ["one?", ANSWER, "two?", ANSWER, "three?"]
            print(f"longest pause {found['pause_ms']} ms")
        finally:
            model.kill()
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
