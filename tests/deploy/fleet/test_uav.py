"""The example that flies: a valid pipeline, alone as with a lender, and video when the hub asks for it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import EXAMPLES, require_package
from tests.deploy.fleet.processes import PATIENCE_S, ROOT, Fleet, thalweg, wait_until
from tests.stages.fleet.test_mavlink import free_udp_port
from thalweg.deploy.bench.ports import free_port
from thalweg.deploy.reading import read_spec

UAV = EXAMPLES / "uav"


def test_the_example_is_a_valid_pipeline_whose_ends_lead_to_the_hub() -> None:
    spec = read_spec(UAV / "uav.yaml", {})
    ends = {name for name, vertex in spec.graph.stages.items() if vertex.info.use == "fleet.uplink"}
    assert ends == {"alerts", "flight", "video"}
    placing = spec.graph.stages["eye"].placing
    assert placing is not None and [place.name for place in placing.places] == ["edge", "fog"]


@pytest.mark.real
def test_the_drone_sees_alone_sends_video_while_it_is_asked_to_and_has_an_eye_at_a_lender(tmp_path: Path) -> None:
    for package, extra in (("cryptography", "hub"), ("aiohttp", "hub"), ("pymavlink", "edge"), ("av", "video")):
        require_package(package, extra)
    with Fleet(tmp_path) as fleet:
        fleet.start_hub()
        fleet.enrol()
        (tmp_path / "node/commands.json").write_text('{"allow": ["video"]}', encoding="utf-8")
        port = free_udp_port()
        fleet.start("autopilot", [sys.executable, str(UAV / "autopilot.py"), f"127.0.0.1:{port}"])
        fleet.start_node()
        given = [part for name in FILES for part in ("--file", str(name))]
        more = "--set", f"autopilot=udp:127.0.0.1:{port}", "--set", "slow=150ms"
        gate = "--output", "flight", "--output", "alerts", "--watch", "5", "--open", "60"
        fleet.hub("rollout", str(UAV / "uav.yaml"), *given, *more, *gate)
        alone = fleet.seen(lambda row: row["current"] == 1 and row["received"]["events"])
        assert "fog" not in alone["places"].get("eye", "")
        fleet.seen(lambda row: row["received"]["events"] > alone["received"]["events"] + 5)
        assert not alone["received"].get("media")

        said = fleet.hub("video", "drone-7", "--seconds", "600", "--within", "30")
        assert "was fetched" in said
        fleet.seen(lambda row: row["received"].get("media", 0) > 20)
        fleet.hub("video", "drone-7", "--seconds", "0", "--within", "30")
        wait_until(lambda: len(outcomes(fleet)) == 2)
        assert all(each["done"] for each in outcomes(fleet))
        wait_until(lambda: is_quiet(fleet))

        fog = tmp_path / "fog"
        code = fleet.hub("enrol", "fog-1", "--lends", "fog").strip()
        enrol = thalweg("node", "enrol", f"{fleet.address}:{fleet.port}", code, "--folder", fog)
        subprocess.run(enrol, cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE_S)
        lend = "node", "lend", "--folder", fog, "--host", "127.0.0.1", "--port", free_port(), "--files", tmp_path
        fleet.start("fog", thalweg(*lend))
        with suppress(
            AssertionError
        ):  # it is gone to after ten seconds without a missed beat: a busy machine takes long
            fleet.seen(is_there)
        fleet.seen(is_there)
        there = fleet.seen(lambda row: row["pipeline"] == "ready")
        fleet.seen(lambda row: row["received"]["events"] > there["received"]["events"] + 5)
        fleet.kill("fog")
        home = fleet.seen(lambda row: row["places"].get("eye", "").startswith("edge"))
        fleet.seen(lambda row: row["received"]["events"] > home["received"]["events"] + 5)


FILES = UAV / "lookout.py", EXAMPLES / "vehicle.npz", EXAMPLES / "labels.mp4"


def is_there(row: dict[str, Any]) -> bool:
    """Whether the eye is at the lender."""
    return bool(row["places"].get("eye", "").startswith("fog: fog-1"))


def outcomes(fleet: Fleet) -> list[dict[str, Any]]:
    """What became of what the hub has asked."""
    lines = fleet.hub("records", "drone-7", "--stream", "video.outcome").splitlines()
    return [json.loads(line)["told"]["payload"] for line in lines]


def is_quiet(fleet: Fleet) -> bool:
    """Whether no media come while some twenty events do."""
    before = fleet.nodes() or {}
    after = fleet.seen(lambda row: row["received"]["events"] > before["received"]["events"] + 20)
    return bool(after["received"]["media"] == before["received"]["media"])
