"""What nodes have sent can be had again, all of it, as JSON."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgpack
import pytest
from click.testing import CliRunner

from thalweg.deploy.fleet.commands import hub
from thalweg.deploy.fleet.hub import records as module
from thalweg.deploy.fleet.hub.export import stored_records
from thalweg.deploy.fleet.hub.records import NodeRecords
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.transports.fleet.losses import LOSSES
from thalweg.transports.fleet.segment import Stored, pack

HOUR_NS = 3600 * 10**9


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's, in which a node has sent four records, in two segments."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", 200)
    now_ns = time.time_ns()
    (tmp_path / "nodes/drone-7").mkdir(parents=True)
    (tmp_path / "nodes/drone-7/node.json").write_text("{}", encoding="utf-8")
    kept = NodeRecords(tmp_path / "nodes/drone-7/records")
    for number, (kind, stream, age_ns, payload) in enumerate(
        (
            (SpoolClass.EVENTS, "alerts", 2 * HOUR_NS, msgpack.packb({"payload": {"score": float("nan")}})),
            (SpoolClass.TELEMETRY, "flight", HOUR_NS, msgpack.packb({"payload": {"latitude": 47.0}})),
            (SpoolClass.MEDIA, "pictures", 0, msgpack.packb({"payload": {"data": b"\x00\xff"}})),
            (SpoolClass.EVENTS, "garbage", 0, b"\xc1"),
            (SpoolClass.EVENTS, LOSSES, 0, msgpack.packb((1, "x", 0, 1, "room"))),
        )
    ):
        stored = Stored(kind=kind, boot=1, stream=stream, number=number, time_ns=now_ns - age_ns, payload=payload)
        kept.receive(pack(stored))
    kept.close()
    assert len(list((tmp_path / "nodes/drone-7/records").glob("*.seg"))) > 1
    return tmp_path


def printed(folder: Path, *options: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(hub, ["records", "drone-7", "--folder", str(folder), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_everything_is_there_in_the_order_it_arrived_and_as_json(folder: Path) -> None:
    found = printed(folder)
    assert [(each["stream"], each["number"], each["kind"]) for each in found] == [
        ("alerts", 0, "events"),
        ("flight", 1, "telemetry"),
        ("pictures", 2, "media"),
        ("garbage", 3, "events"),
    ]
    assert [each["told"] for each in found] == [
        {"payload": {"score": None}},
        {"payload": {"latitude": 47.0}},
        {"payload": {"data": {"base64": "AP8="}}},
        {"base64": "wQ=="},
    ]


@pytest.mark.parametrize(
    ("options", "streams"),
    [
        (("--kind", "telemetry", "--kind", "media"), ["flight", "pictures"]),
        (("--stream", "alerts"), ["alerts"]),
        (("--since", "90min"), ["flight", "pictures", "garbage"]),
    ],
)
def test_kinds_streams_and_ages_can_be_chosen(folder: Path, options: tuple[str, ...], streams: list[str]) -> None:
    assert [each["stream"] for each in printed(folder, *options)] == streams


def test_what_a_hub_removes_meanwhile_is_passed_over(folder: Path) -> None:
    found = stored_records(folder, "drone-7", list(SpoolClass))
    assert next(found).stream == "alerts"
    for path in (folder / "nodes/drone-7/records").glob("*.seg"):
        path.unlink()
    assert "garbage" not in [stored.stream for stored in found]


def test_a_node_that_is_none_and_an_age_that_is_none_are_refused(folder: Path) -> None:
    with pytest.raises(Exception, match=r"no node 'drone-8'.*did you mean 'drone-7'"):
        CliRunner().invoke(hub, ["records", "drone-8", "--folder", str(folder)], catch_exceptions=False)
    wrong = CliRunner().invoke(hub, ["records", "drone-7", "--folder", str(folder), "--since", "old"])
    assert wrong.exit_code == 2 and "not a length of time" in wrong.output
