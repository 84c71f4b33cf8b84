"""What a keeper's answer means for a trial."""

from __future__ import annotations

from typing import Any

from thalweg.deploy.fleet.node.running import deadlines_of, sight_of


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
