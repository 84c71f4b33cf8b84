"""Hub, node and lender as somebody would run them: a stage goes to the lender, and comes home when that is killed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgpack
import pytest

from tests.conftest import require_package
from tests.deploy.fleet.processes import HERE, PATIENCE_S, ROOT, Fleet, thalweg
from thalweg.deploy.bench.fleet.cloud import LENT
from thalweg.deploy.bench.ports import free_port
from thalweg.transports.fleet.segment import MAGIC, records


@pytest.mark.real
def test_a_stage_goes_to_a_lender_of_the_hub_and_comes_home_with_its_state_when_that_is_killed(tmp_path: Path) -> None:
    require_package("cryptography", "hub")
    require_package("aiohttp", "hub")
    with Fleet(tmp_path) as fleet:
        fleet.start_hub()
        fleet.enrol()
        fog = tmp_path / "fog"
        code = fleet.hub("enrol", "fog-1", "--lends", "fog").strip()
        enrol = thalweg("node", "enrol", f"{fleet.address}:{fleet.port}", code, "--folder", fog)
        subprocess.run(enrol, cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE_S)
        lend = thalweg("node", "lend", "--folder", fog, "--host", "127.0.0.1", "--port", free_port(), "--files", LENT)
        fleet.start("fog", lend)
        fleet.start_node()
        files = str(HERE / "moved.yaml"), "--file", str(LENT / "counting.py")
        fleet.hub("rollout", *files, "--node", "drone-7", "--watch", "2", "--open", "60")
        fleet.seen(lambda row: row.get("places", {}).get("adder", "").startswith("fog: fog-1"))
        fleet.kill("fog")
        row = fleet.seen(lambda row: row.get("places", {}).get("adder", "").startswith("edge"))
        assert "fog missed 2 beats" in row["places"]["adder"]
        fleet.seen(lambda now: now["received"]["events"] > row["received"]["events"] + 5)
        told = [
            json.loads(line) for line in fleet.hub("records", "drone-7", "--stream", "adder.placement").splitlines()
        ]
        assert [(event["told"]["payload"]["from"], event["told"]["payload"]["to"]) for event in told] == [
            ("edge", "fog"),
            ("fog", "edge"),
        ]
        counted = added(tmp_path)
    assert {where for *_, where in counted} == {"here", "there"}
    assert [count for _, count, _, _ in counted] == [str(n + 1) for n in range(len(counted))]


def added(folder: Path) -> list[list[str]]:
    """What the adder said, in the order of its numbers: number, count, sum, where."""
    found = []
    for path in sorted((folder / "hub/nodes/drone-7/records").glob("*.seg")):
        for record in records(path.read_bytes(), len(MAGIC)):
            if record.stored.stream == "adder.token":
                found.append(msgpack.unpackb(record.stored.payload)["payload"]["text"].split())
    return sorted(found, key=lambda said: int(said[0]))
