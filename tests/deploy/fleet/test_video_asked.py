"""What the hub's page says of video that was asked for is what the node has said."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from tests.conftest import require_package
from thalweg.deploy.fleet.hub.commanding import AskedVideo
from thalweg.deploy.fleet.hub.overview import video_outcomes
from thalweg.deploy.fleet.hub.state import HubState
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.transports.fleet.segment import Stored, pack

AGREED, REFUSED = {"7": (True, "")}, {"7": (False, "no fleet.uplink runs here")}


@pytest.mark.parametrize(
    ("fetched", "outcomes", "seconds", "instance", "state"),
    [
        (None, {}, 60, "a", "asked"),
        (False, {}, 60, "a", "void"),
        (True, {}, 60, "a", "fetched"),
        (True, AGREED, 60, "a", "agreed"),
        (None, AGREED, 60, "a", "agreed"),
        (True, REFUSED, 60, "a", "refused"),
        (True, AGREED, 0, "a", "ended"),
        (True, AGREED, 60, "b", "ended"),
        (True, {"6": (True, "")}, 60, "a", "fetched"),
    ],
)
def test_video_is_said_to_come_once_the_node_has_agreed_and_no_longer_than_that(
    fetched: bool | None, outcomes: dict[str, tuple[bool, str]], seconds: float, instance: str, state: str
) -> None:
    asked = AskedVideo(id="7", instance="a", seconds=seconds, fetched=fetched)
    assert asked.state(instance, outcomes)["state"] == state


def test_what_became_of_requests_is_known_behind_any_number_of_other_events(tmp_path: Any) -> None:
    require_package("cryptography", "hub")
    state = HubState(tmp_path)
    (tmp_path / "nodes/drone-7").mkdir()

    def event(stream: str, number: int, told: object) -> bytes:
        payload = msgpack.packb({"payload": told})
        return pack(Stored(kind=SpoolClass.EVENTS, boot=1, stream=stream, number=number, time_ns=0, payload=payload))

    records = state.records("drone-7")
    records.receive(event("video.outcome", 0, {"id": "7", "action": "video", "done": True, "reason": ""}))
    records.receive(event("commands", 0, {"id": "8", "done": False, "reason": "x" * 1000}))
    records.receive(event("commands", 1, {"id": 9}))
    records.receive(b"".join(event("beacon", number, "x") for number in range(200)))
    assert video_outcomes(state, "drone-7") == {"7": (True, ""), "8": (False, "x" * 300)}
    state.close()
