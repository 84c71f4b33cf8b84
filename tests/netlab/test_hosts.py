"""Three Ray nodes, a front and people, each on a host of their own: media goes past the front, not through it."""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.conftest import require_lab, require_package
from tests.netlab import Host, Lab, lab
from thalweg.deploy.bench.dialogue.scripted import pipeline
from thalweg.deploy.server.snapshot import host_of

ROOT = Path(__file__).parent.parent.parent
NODES = ("one", "two", "three")
PATIENCE_S = 120.0
SMALL = ("--object-store-memory", "80000000", "--disable-usage-stats", "--block")


def join(host: Host, head: Host | None, tmp: Path, *options: str) -> None:
    """`ray start` on a host, until it has: the head of a cluster, or a node of the one at `head`."""
    where = (
        ("--head", "--port", "6379", "--include-dashboard", "false", "--temp-dir", str(tmp))
        if head is None
        else ("--address", f"{head.address}:6379")
    )
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--node-ip-address", host.address]
    env = os.environ | {"PYTHONPATH": str(ROOT), "RAY_raylet_start_wait_time_s": "120"}
    log = tmp / f"{host.name}.log"
    with log.open("ab") as out:
        started = host.popen([*ray, *where, *options, *SMALL], env=env, stdout=out, stderr=out)
    deadline = time.monotonic() + PATIENCE_S
    while b"Ray runtime started" not in log.read_bytes():
        assert started.poll() is None and time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.2)


def ask(net: Lab, path: str) -> Any:
    """What the front says to the operator."""
    command = ["curl", "-s", "-m", "5", "-H", "Authorization: Bearer operator"]
    text = net.people.run([*command, f"http://{net.front.address}:8080{path}"], check=False).stdout
    return json.loads(text) if text.strip() else {}


def ready(net: Lab) -> set[str]:
    """Hosts with a pipeline that waits."""
    return {host["name"] for host in ask(net, "/hosts").get("hosts", ()) if host["state"] == "up" and not host["why"]}


def test_people_talk_with_three_nodes_and_no_sound_passes_the_front(tmp_path: Path) -> None:
    require_lab()
    require_package("ray", "ray")
    file = tmp_path / "scripted.yaml"
    file.write_text(pipeline(length="1500ms"), encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="tw") as short, lab("front", "people", *NODES) as net:
        told = json.loads(talked(net, Path(short), file, tmp_path))
    assert len({host_of(session) for session in told["sessions"]}) == 3
    assert told["answers"] == [f"w{i} and more" for i in range(3)]
    moved: Counter[str] = Counter()
    with (tmp_path / "packets.csv").open(encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            moved[f"{row['from']} -> {row['to']}"] += int(row["bytes"]) * (row["fate"] == "delivered")
    sound = [moved[f"{node} -> people"] + moved[f"people -> {node}"] for node in NODES]
    assert min(sound) > 60_000, "five seconds of sound, both ways, with each node"
    through = moved["front -> people"] + moved["people -> front"]
    assert through < 60_000 < 0.4 * sum(sound), "three offers and answers, and nothing else"


def talked(net: Lab, short: Path, file: Path, tmp_path: Path) -> str:
    """What the people say of their conversations. `short`: a folder whose name is short enough for Ray's sockets."""
    head, *others = (net.hosts[name] for name in NODES)
    marked = ("--num-cpus", "1", "--resources", '{"thalweg": 1}')
    join(head, None, short, *marked)
    for node in others:
        join(node, head, short, *marked)
    join(net.front, head, short, "--num-cpus", "0")
    log = tmp_path / "front.log"
    env = os.environ | {"THALWEG_ADMIN_TOKEN": "operator", "XDG_STATE_HOME": str(tmp_path)}
    serve = ["-m", "thalweg.deploy", "serve", file, "--sessions", "4"]
    serve += ["--host", net.front.address, "--on", "ray"]
    with log.open("ab") as out:
        net.front.python(*serve, "--address", f"{head.address}:6379", env=env, stderr=out)
    deadline = time.monotonic() + PATIENCE_S
    while len(ready(net)) < 3:
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.5)
    net.log(tmp_path / "packets.csv")
    found = net.people.run(
        [sys.executable, "-m", "tests.netlab.talking", f"http://{net.front.address}:8080", "3"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=100,
        check=False,
    )
    assert found.returncode == 0, f"{found.stderr}\n{log.read_text(encoding='utf-8')}"
    return str(found.stdout)
