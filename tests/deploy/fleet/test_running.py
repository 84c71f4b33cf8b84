"""What a keeper's answer means for a trial."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.fleet.processes import wait_until
from thalweg.deploy.fleet.manifest import Manifest
from thalweg.deploy.fleet.node.disk import Disk
from thalweg.deploy.fleet.node.running import _DEADLINE, Pipeline, deadlines_of, sight_of
from thalweg.pipeline.channel import Drop


def stage(use: str, units: int = 0, **counts: int) -> dict[str, Any]:
    return {"use": use, "units": units, "counts": counts}


STAGES = {
    "camera": stage("video.file", 9),
    "buffer": stage("audio.jitter", 9, late=100),
    "alerts": stage("fleet.uplink", 4, stored=4, in_time=3, late=1),
}
CHANNELS = {"camera.image->alerts.any": {"drops": {"deadline": 5, "superseded": 7}}}
ANSWER = {
    "status": {"state": "ready", "reason": "", "workers": {"main": {"restarts": 0}, "gone": {"restarts": 1}}},
    "stats": {"main": {"stages": STAGES, "channels": CHANNELS}, "gone": None},
}


def test_deadlines_are_missed_where_packets_leave_late_or_are_dropped_on_their_way() -> None:
    assert deadlines_of(ANSWER) == {"in_time": 3, "late": 1, "dropped": 5}
    sight = sight_of(ANSWER)
    assert (sight.made, sight.missed) == (9, 6)


def test_only_what_leads_out_is_an_output_and_restarts_are_summed() -> None:
    sight = sight_of(ANSWER)
    assert (dict(sight.outputs), sight.restarts, sight.ready) == ({"alerts": 4}, 1, True)


@pytest.mark.real
def test_the_agent_carries_no_numpy() -> None:
    program = "import sys; import thalweg.deploy.fleet.node.agent; print({'numpy', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"


@pytest.mark.real
def test_what_an_agent_that_was_killed_has_left_is_ended_with_its_keeper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # a pipeline sets it
    (tmp_path / "files").mkdir()
    for name in ("beacon.yaml", "beacon.py"):
        shutil.copy(Path(__file__).parent / name, tmp_path / "files")
    left = Pipeline(Disk(tmp_path), tmp_path / "intake.sock")
    left.start(tmp_path, Manifest(generation=1, pipeline="beacon.yaml", files=()))
    try:
        wait_until(lambda: (sight := left.sight()) is not None and sight.ready)
        Pipeline(Disk(tmp_path), tmp_path / "intake.sock").stop()
        assert left.ended
    finally:
        left.stop()


def test_a_drop_for_a_deadline_is_called_what_channels_call_it() -> None:
    assert Drop.DEADLINE.value == _DEADLINE
