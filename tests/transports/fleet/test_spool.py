"""What a spool has taken reaches the hub once, whatever is cut off, damaged or full."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from thalweg.pipeline.fleet.received import Received
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.transports.fleet.losses import LOSSES, told_losses
from thalweg.transports.fleet.segment import SegmentWriter, SpoolError, Stored, pack, read_record, records
from thalweg.transports.fleet.spool import Spool

EVENTS, TELEMETRY, MEDIA = SpoolClass.EVENTS, SpoolClass.TELEMETRY, SpoolClass.MEDIA
BUDGET = 1 << 20


def fill(spool: Spool, kind: SpoolClass, count: int, size: int = 50, stream: str = "s") -> list[Stored]:
    return [spool.append(kind, stream, bytes([n % 256]) * size, n) for n in range(count)]


def numbers(frames: list[bytes], stream: str = "s") -> list[int]:
    found = [record.stored for record in records(b"".join(frames))]
    return [stored.number for stored in found if stored.stream == stream]


def drained(spool: Spool) -> list[Stored]:
    """Everything the backlog has, once nothing is live."""
    spool.newest(1 << 30)
    spool.newest(1 << 30)
    spool.rewind()
    return [record.stored for record in records(b"".join(iter_oldest(spool)))]


def iter_oldest(spool: Spool) -> list[bytes]:
    frames: list[bytes] = []
    while more := spool.oldest(20_000):
        frames += more
    return frames


def test_the_live_lane_gives_the_newest_first_and_each_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1, BUDGET)
    fill(spool, TELEMETRY, 5)
    assert numbers(spool.newest(250)) == [4, 3]
    assert numbers(spool.newest(10_000)) == [2, 1, 0]
    assert spool.newest(10_000) == []


def test_a_lane_is_given_its_own_classes_and_what_each_has_in_flight_is_no_backlog(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1, BUDGET)
    for _ in range(3):
        fill(spool, TELEMETRY, 1)
        fill(spool, MEDIA, 1, stream="m")
    assert spool.waiting_live(MEDIA) > 150
    assert numbers(spool.newest(1, (MEDIA,), "one"), "m") == [2]
    assert numbers(spool.newest(1, (MEDIA,), "two"), "m") == [1]
    assert numbers(spool.newest(10_000, (TELEMETRY,), "live")) == [2, 1, 0]
    assert spool.oldest(10_000) == []
    spool.newest(10_000, (TELEMETRY,), "live")
    assert numbers(spool.oldest(10_000)) == [0, 1, 2]
    assert numbers(spool.newest(1, (MEDIA,), "one"), "m") == [0] and spool.waiting_live(MEDIA) == 0


def test_the_backlog_gives_the_oldest_first_and_ends_before_what_is_live(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1, BUDGET)
    fill(spool, TELEMETRY, 300)
    assert numbers(iter_oldest(spool)) == list(range(44))


def test_what_is_acknowledged_is_not_given_again_and_its_segments_go(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1, BUDGET)
    fill(spool, EVENTS, 600)
    spool.settle(1, "s", Received(500))
    assert [stored.number for stored in drained(spool)] == list(range(500, 600))
    assert spool.backlog()["events"]["records"] == 100
    spool.settle(1, "s", Received(600))
    assert spool.backlog()["events"] == {"records": 0, "bytes": 0}
    assert len(list(tmp_path.glob("*.seg"))) <= 1


def test_another_start_goes_on_with_what_was_left(tmp_path: Path) -> None:
    first = Spool(tmp_path, 1, BUDGET)
    fill(first, EVENTS, 3)
    first.close()
    again = Spool(tmp_path, 2, BUDGET)
    fill(again, EVENTS, 2)
    assert [stored.key for stored in drained(again)] == [
        (1, "s", 0),
        (1, "s", 1),
        (1, "s", 2),
        (2, "s", 0),
        (2, "s", 1),
    ]
    assert again.streams() == {(1, "s"): 0, (2, "s"): 0}


def test_no_class_of_the_backlog_starves(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1, BUDGET)
    for kind in SpoolClass:
        fill(spool, kind, 400, stream=kind.value)
    spool.newest(1 << 30)
    spool.newest(1 << 30)
    given = Counter(record.stored.kind for record in records(b"".join(spool.oldest(20_000))))
    assert all(given[kind] >= 10 for kind in SpoolClass)


def test_what_gives_way_is_told_as_an_event(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1, 200_000)
    fill(spool, MEDIA, 400, 1000, "video")
    found = drained(spool)
    losses = told_losses(stored.payload for stored in found if stored.stream == LOSSES)
    kept = {stored.number for stored in found if stored.stream == "video"}
    lost = {number for _, _, first, end, _ in losses for number in range(first, end)}
    assert lost and kept and not lost & kept
    assert lost | kept == set(range(400))


def test_a_spool_full_of_events_refuses_and_keeps_them_all(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1, 100_000)
    with pytest.raises(SpoolError, match="no room for events"):
        fill(spool, EVENTS, 200, 1000)
    kept = [stored.number for stored in drained(spool) if stored.stream == "s"]
    assert kept == list(range(len(kept))) and len(kept) > 50
    assert spool.refused == {"events": 1}


def test_a_full_disk_costs_media_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, 1, BUDGET)
    fill(spool, MEDIA, 60, 1000, "video")
    write = SegmentWriter._write
    full = [True]

    def refuse(writer: SegmentWriter, data: bytes) -> None:
        if full.pop() if full else False:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(writer, data)

    monkeypatch.setattr(SegmentWriter, "_write", refuse)
    spool.append(EVENTS, "s", b"alarm", 0)
    assert "disk full" in {why for *_, why in told_losses(s.payload for s in drained(spool) if s.stream == LOSSES)}


def test_a_frame_larger_than_a_batch_is_given_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1, BUDGET)
    fill(spool, EVENTS, 2, 30_000)
    spool.newest(1 << 30)
    spool.newest(1 << 30)
    assert [numbers(spool.oldest(1000)) for _ in range(3)] == [[0], [1], []]


def test_a_loss_that_cannot_be_told_yet_is_no_record_that_was_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1, 100_000)
    with pytest.raises(SpoolError, match="no room for events"):
        fill(spool, EVENTS, 200, 1000)
    spool._untold += [(1, "video", n, n + 1, "room") for n in range(300)]
    fill(spool, TELEMETRY, 5)
    assert spool.refused == {"events": 1} and spool._untold


@pytest.mark.parametrize("step", [lambda spool: spool.sync(EVENTS), lambda spool: fill(spool, EVENTS, 200, 1000)])
def test_an_event_whose_sync_failed_in_anothers_name_is_not_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Callable[[Spool], object]
) -> None:
    spool = Spool(tmp_path, 1, BUDGET)
    first = spool.append(EVENTS, "s", b"", 0)
    with monkeypatch.context() as broken:
        for call in ("os.fdatasync", "os.fsync"):
            broken.setattr(call, keeps_nothing)
        with pytest.raises(SpoolError):
            step(spool)
    with pytest.raises(SpoolError, match="did not take it"):
        spool.sync(EVENTS, first)
    spool.sync(EVENTS, spool.append(EVENTS, "s", b"", 0))


def keeps_nothing(descriptor: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spool of 300 events in several segments, as it lies on the disk after the last sync."""
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, 1, 600_000)
    for n in range(300):
        spool.append(EVENTS, "s", n.to_bytes(4, "little") * 20, n)
    spool.sync(EVENTS)
    return folder


@pytest.mark.parametrize("seed", range(4))
def test_a_power_cut_anywhere_costs_nothing_that_was_on_the_disk_before_it(
    written: Path, tmp_path: Path, seed: int
) -> None:
    """50 places each: the file under way ends there, in garbage or zeros, as an unsynced tail may."""
    chance = random.Random(seed)
    for at in range(50):
        copy = tmp_path / str(at)
        shutil.copytree(written, copy)
        last = max(copy.glob("*.seg"))
        whole = last.read_bytes()
        cut = chance.randrange(8, len(whole))
        tail = chance.choice([b"", bytes(40), chance.randbytes(40)])
        last.write_bytes(whole[:cut] + tail)
        synced = {record.stored.number for record in records(whole) if record.end <= cut}
        before = min(record.stored.number for record in records(whole))
        found = [stored for stored in drained(Spool(copy, 2, 600_000)) if stored.stream == "s"]
        assert {stored.number for stored in found} >= synced | set(range(before))
        assert all(bytes(stored.payload) == stored.number.to_bytes(4, "little") * 20 for stored in found)
        shutil.rmtree(copy)


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_costs_the_record_it_is_in_and_the_loss_is_told(written: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for at in range(50):
        copy = tmp_path / str(at)
        shutil.copytree(written, copy)
        path = chance.choice(sorted(copy.glob("*.seg")))
        data = bytearray(path.read_bytes())
        data[chance.randrange(8, len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        found = drained(Spool(copy, 2, 600_000))
        there = {stored.number for stored in found if stored.stream == "s"}
        lost = set(range(300)) - there
        told = told_losses(stored.payload for stored in found if stored.stream == LOSSES)
        assert len(lost) == 1
        assert lost <= {0, 299} or told == [(1, "s", min(lost), max(lost) + 1, "damaged")]
        shutil.rmtree(copy)


def test_a_record_is_read_as_it_was_packed_and_garbage_is_refused() -> None:
    stored = Stored(kind=MEDIA, boot=7, stream="höhe", number=2**40, time_ns=-5, payload=b"abc")
    found = next(records(pack(stored))).stored
    assert (found.key, found.kind, found.time_ns, bytes(found.payload)) == (stored.key, MEDIA, -5, b"abc")
    with pytest.raises(SpoolError):
        read_record(b"garbage")
    with pytest.raises(SpoolError, match="has a name of 0 bytes"):
        pack(Stored(kind=MEDIA, boot=1, stream="", number=0, time_ns=0, payload=b""))


def read_only(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_what_the_hub_has_is_sent_no_more_also_where_its_segment_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, 1, BUDGET)
    fill(spool, EVENTS, 3)
    fill(spool, EVENTS, 70, 1000)
    spool.newest(1 << 30)
    with monkeypatch.context() as disk:
        disk.setattr(Path, "unlink", read_only)
        spool.settle(1, "s", Received(73))
        spool.rewind()
        assert spool.oldest(1 << 20) == [] and spool.backlog()["events"]["records"] == 0
    held = len(list(tmp_path.glob("*.seg")))
    spool.settle(1, "s", Received(73))
    assert held > len(list(tmp_path.glob("*.seg")))


def test_what_comes_after_a_write_that_failed_half_way_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, 1, BUDGET)
    fill(spool, EVENTS, 1)
    write = os.write
    with monkeypatch.context() as disk:
        disk.setattr("os.write", lambda fd, data: write(fd, data[:20]) if len(data) > 20 else read_only())
        disk.setattr("os.ftruncate", read_only)
        with pytest.raises(SpoolError, match="Read-only"):
            spool.append(EVENTS, "s", bytes(11), 0)
    assert "Read-only" in spool.problem
    fill(spool, EVENTS, 2)
    assert [stored.number for stored in drained(Spool(tmp_path, 2, BUDGET))] == [0, 1, 2]


def test_a_spool_is_found_on_a_disk_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(Spool(tmp_path, 1, BUDGET), EVENTS, 2)
    (tmp_path / "0000000009-media.seg").write_bytes(b"")
    monkeypatch.setattr(Path, "unlink", read_only)
    assert [stored.number for stored in drained(Spool(tmp_path, 2, BUDGET))] == [0, 1]
