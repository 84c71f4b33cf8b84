"""What the hub has acknowledged it has, once, whatever happened between."""

from __future__ import annotations

import os
import random
from pathlib import Path

import msgpack
import pytest

from thalweg.deploy.fleet.hub import records as module
from thalweg.deploy.fleet.hub.records import NOTES, NodeRecords
from thalweg.pipeline.fleet.received import Received
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.transports.fleet.losses import LOSSES
from thalweg.transports.fleet.segment import MAGIC, Stored, pack, records
from thalweg.transports.fleet.spool import Spool

EVENTS, MEDIA = SpoolClass.EVENTS, SpoolClass.MEDIA


def frame(number: int, stream: str = "s", boot: int = 1) -> bytes:
    return pack(Stored(kind=EVENTS, boot=boot, stream=stream, number=number, time_ns=0, payload=b"x" * 30))


def kept(folder: Path) -> list[int]:
    found = [
        record.stored for path in sorted(folder.glob("*.seg")) for record in records(path.read_bytes(), len(MAGIC))
    ]
    return [stored.number for stored in found if stored.stream == "s"]


def test_what_comes_twice_is_kept_once_also_after_a_restart(tmp_path: Path) -> None:
    hub = NodeRecords(tmp_path)
    assert hub.receive(frame(0) + frame(1)) == [[1, "s", [2, []]]]
    assert hub.receive(frame(1) + frame(2) + frame(2)) == [[1, "s", [3, []]]]
    hub.close()
    again = NodeRecords(tmp_path)
    assert again.receive(frame(0) + frame(3)) == [[1, "s", [4, []]]]
    assert kept(tmp_path) == [0, 1, 2, 3]
    assert again.counts["events"] == 4


def test_marks_are_right_over_many_segments_and_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 500)
    chance = random.Random(1)
    numbers = list(range(200)) * 2
    chance.shuffle(numbers)
    hub = NodeRecords(tmp_path)
    for at in range(0, 400, 8):
        hub.receive(b"".join(map(frame, numbers[at : at + 8])))
        if at % 40 == 0:
            hub.close()
            hub = NodeRecords(tmp_path)
    assert sorted(kept(tmp_path)) == list(range(200))
    assert hub.receive(frame(0)) == [[1, "s", [200, []]]]


def test_what_a_failed_write_has_taken_is_not_acknowledged_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = NodeRecords(tmp_path)
    hub.receive(frame(0))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("thalweg.transports.fleet.segment.SegmentWriter.append", fail)
        with pytest.raises(OSError, match="No space"):
            hub.receive(frame(1))
    assert NodeRecords(tmp_path).receive(frame(1)) == [[1, "s", [2, []]]]
    assert kept(tmp_path) == [0, 1]


def test_a_loss_that_is_told_fills_the_gap_and_is_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 1, 200_000)
    for number in range(400):
        spool.append(MEDIA, "video", bytes(1000), number)
    hub = NodeRecords(tmp_path / "hub")
    spool.newest(1 << 30)
    while frames := spool.newest(1 << 20) + spool.oldest(1 << 20):
        for boot, stream, plain in hub.receive(b"".join(frames)):
            spool.settle(boot, stream, Received.from_plain(plain))
    spool.rewind()
    while frames := spool.oldest(1 << 20):
        for boot, stream, plain in hub.receive(b"".join(frames)):
            spool.settle(boot, stream, Received.from_plain(plain))
    assert hub.counts["media"] + hub.lost["room"] == 400
    assert hub.lost["room"] > 100
    assert spool.backlog()["media"]["records"] == 0


def test_a_hub_restored_from_an_old_copy_notes_what_the_node_no_longer_has(tmp_path: Path) -> None:
    hub = NodeRecords(tmp_path)
    assert hub.floors([(1, "s", 5)]) == [[1, "s", [5, []]]]
    assert hub.lost == {"gone": 5}
    hub.close()
    again = NodeRecords(tmp_path)
    assert again.floors([(1, "s", 5)]) == [[1, "s", [5, []]]] and again.lost == {"gone": 5}


def test_garbage_between_frames_is_passed_over(tmp_path: Path) -> None:
    hub = NodeRecords(tmp_path)
    assert hub.receive(b"garbage" + frame(0) + bytes(50) + frame(1)[:-3]) == [[1, "s", [1, []]]]


def loss(number: int, payload: bytes) -> bytes:
    return pack(Stored(kind=EVENTS, boot=1, stream=LOSSES, number=number, time_ns=0, payload=payload))


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1",
        b"",
        msgpack.packb(["a"]),
        msgpack.packb((1, "x" * 300, 0, 5, "room")),
        msgpack.packb((1, "s", 5, 1, "")),
    ],
)
def test_a_loss_that_says_nothing_is_passed_over_also_after_a_restart(tmp_path: Path, payload: bytes) -> None:
    hub = NodeRecords(tmp_path)
    assert hub.receive(loss(0, payload) + frame(0)) == [[1, LOSSES, [1, []]], [1, "s", [1, []]]]
    hub.close()
    again = NodeRecords(tmp_path)
    assert again.lost == {} and again.receive(frame(0)) == [[1, "s", [1, []]]]


def test_reasons_of_losses_are_those_there_are_and_another(tmp_path: Path) -> None:
    hub = NodeRecords(tmp_path)
    for number, why in enumerate(("room", "disk full", "x", "y" * 1000)):
        hub.receive(loss(number, msgpack.packb((1, f"s{number}", 0, 2, why))))
    assert hub.lost == {"room": 2, "disk full": 2, "other": 4}


def test_marks_are_bounded_whichever_way_they_are_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_MARKS", 10)
    hub = NodeRecords(tmp_path)
    for number in range(30):
        hub.floors([(1, f"floor {number}", number % 2)])
        hub.receive(loss(number, msgpack.packb((1, f"loss {number}", 0, 1, "room"))))
        hub.receive(frame(0, f"record {number}"))
    assert len(hub._marks) == 10


def test_marks_of_starts_of_which_a_node_has_nothing_any_more_are_forgotten(tmp_path: Path) -> None:
    hub = NodeRecords(tmp_path)
    for boot in range(1, 6):
        hub.receive(frame(0, boot=boot) + frame(0, "other", boot=boot))
    assert hub.floors([(5, "s", 1), (4, "s", 0)]) == [[5, "s", [1, []]], [4, "s", [1, []]]]
    assert {boot for boot, _ in hub._marks} == {4, 5}


def test_a_node_cannot_write_the_hubs_own_notes(tmp_path: Path) -> None:
    hub = NodeRecords(tmp_path)
    assert hub.receive(frame(0, NOTES) + frame(0)) == [[1, "s", [1, []]]]


def test_what_is_kept_in_memory_holds_no_request_and_of_large_events_only_their_size(tmp_path: Path) -> None:
    hub = NodeRecords(tmp_path)
    large = Stored(kind=EVENTS, boot=1, stream="s", number=1, time_ns=0, payload=bytes(1 << 20))
    hub.receive(frame(0) + pack(large))
    before = hub.look()
    hub.receive(frame(2))
    assert [type(stored.payload) for stored in before.newest] == [bytes, bytes]
    assert before.newest[1].payload == msgpack.packb("1048576 bytes") and before.counts == {"events": 2}


def test_what_is_too_old_is_removed_and_stays_known_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 100)
    hub = NodeRecords(tmp_path)
    for number in range(10):
        hub.receive(frame(number))
    segments = sorted(tmp_path.glob("*.seg"))
    for path in (*segments[:3], segments[-1]):
        os.utime(path, (1000, 1000))
    assert hub.remove_before(2000) == 3 and sorted(tmp_path.glob("*.seg")) == segments[3:]
    for _ in range(2):
        assert hub.receive(frame(0)) == [[1, "s", [10, []]]]
        assert hub.look().counts["events"] == 10
        hub.close()
        hub = NodeRecords(tmp_path)
    assert hub.remove_before(2000) == 0


def test_the_only_segment_is_never_removed(tmp_path: Path) -> None:
    hub = NodeRecords(tmp_path)
    hub.receive(frame(0))
    assert hub.remove_before(1e12) == 0 and NodeRecords(tmp_path).receive(frame(0)) == [[1, "s", [1, []]]]
