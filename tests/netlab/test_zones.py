"""People of two places, a host in each, and a front elsewhere: each talks over the shorter way."""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

from tests.conftest import require_lab
from tests.netlab import Lab, Link, lab

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 120.0
NEAR, FAR = Link(delay_ms=3), Link(delay_ms=60)
PLACES = {"west": "one", "east": "two"}


def ready(net: Lab, url: str) -> int:
    """How many hosts have a pipeline that waits, as the front says to the operator."""
    command = ["curl", "-s", "-m", "5", "-H", "Authorization: Bearer admin", f"{url}/hosts"]
    text = net.front.run(command, check=False).stdout
    hosts = json.loads(text)["hosts"] if text.strip() else []
    return sum(host["state"] == "up" and not host["why"] for host in hosts)


def started(net: Lab, tmp_path: Path) -> str:
    """The address of the front, which has both hosts. The host of the west is called so that it would be asked last."""
    folder = tmp_path / "hosts"
    folder.mkdir(mode=0o700)
    with (tmp_path / "log").open("ab") as log:
        for zone, name in PLACES.items():
            host = net.hosts[name]
            called = "host-2" if zone == "west" else "host-1"
            host.python("-m", "tests.netlab.zoned", "host", folder, called, host.address, zone, stdout=log, stderr=log)
        told = (tmp_path / "log").read_text
        deadline = time.monotonic() + PATIENCE_S
        while len(list(folder.glob("*.json"))) < 2:
            assert time.monotonic() < deadline, told(encoding="utf-8")
            time.sleep(0.2)
        zones = [f"{net.hosts[zone].address}/32={zone}" for zone in PLACES]
        net.front.python("-m", "tests.netlab.zoned", "front", folder, net.front.address, *zones, stdout=log, stderr=log)
        url = f"http://{net.front.address}:8080"
        while ready(net, url) < 2:
            assert time.monotonic() < deadline, told(encoding="utf-8")
            time.sleep(0.2)
    return url


def test_people_of_two_places_talk_with_the_host_of_their_own(tmp_path: Path) -> None:
    require_lab()
    with lab("front", *PLACES, *PLACES.values()) as net:
        for zone in PLACES:
            for other, name in PLACES.items():
                link = NEAR if other == zone else FAR
                net.change(link, zone, name)
                net.change(link, name, zone)
        url = started(net, tmp_path)
        net.log(tmp_path / "packets.csv")
        for zone in PLACES:
            talk = [sys.executable, "-m", "tests.netlab.talking", url, "2"]
            env = os.environ | {"PYTHONPATH": str(ROOT)}
            found = net.hosts[zone].run(talk, cwd=ROOT, env=env, timeout=100, check=False)
            assert found.returncode == 0, f"{found.stderr}\n{(tmp_path / 'log').read_text(encoding='utf-8')}"
            assert json.loads(found.stdout)["answers"] == ["w0 and more", "w1 and more"]
    moved: Counter[tuple[str, str]] = Counter()
    with (tmp_path / "packets.csv").open(encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            moved[row["from"], row["to"]] += int(row["bytes"])
    near = [moved[name, zone] for zone, name in PLACES.items()]
    far = [moved[name, zone] for zone in PLACES for other, name in PLACES.items() if other != zone]
    assert min(near) > 10_000 and max(far) == 0, f"sound went the long way: {moved}"
