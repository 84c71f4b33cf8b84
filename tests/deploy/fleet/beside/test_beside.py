"""What is said of an outage and of power cuts follows from what was seen; peers are met where they are installed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.deploy.fleet.beside.account import Missing, Seen, account, missing
from tests.deploy.fleet.beside.cut_nats import cut, told
from tests.deploy.fleet.beside.hour import HOUR, arguments, new_events
from tests.deploy.fleet.beside.nats_server import config
from tests.deploy.fleet.beside.peers import require_peer
from tests.deploy.fleet.beside.queue_ends import BATCH_BYTES, event, next_batch
from tests.deploy.fleet.cut_disk import why_not as why_no_disk
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.transports.fleet.segment import MAGIC, Stored, pack

S = 10**9


def test_of_what_was_acknowledged_what_is_absent_is_lost_and_what_is_there_twice_is_doubled() -> None:
    assert missing(4, [0, 1, 1, 3, 5]) == Missing(acknowledged=5, lost=2, doubled=1)
    assert missing(-1, []) == Missing(acknowledged=0, lost=0, doubled=0)


def test_a_queue_that_sends_the_oldest_first_keeps_what_is_new_waiting() -> None:
    old = [Seen(n, n * S, (20 + n) * S) for n in range(10)]
    new = [Seen(10 + n, (20 + n) * S, (30 + n) * S) for n in range(10)]
    found = account([*old, *new], back_ns=15 * S)
    assert (found.waited, found.first_s, found.drained_s) == (10, 5, 14)
    assert (found.fresh, found.fresh_p95_ms, found.fresh_worst_ms) == (10, 10_000, 10_000)


def test_what_is_new_is_judged_by_the_way_that_is_asked_for_it_and_only_while_the_backlog_drains() -> None:
    stored = [Seen(0, 1 * S, 20 * S), Seen(1, 2 * S, 30 * S)]
    live = [Seen(2, 16 * S, 19 * S), Seen(3, 25 * S, 25 * S + S // 10), Seen(4, 31 * S, 40 * S)]
    found = account(stored, 15 * S, live)
    assert (found.fresh, found.fresh_p95_ms, found.since_back_p95_ms) == (1, 100, 3000)


def test_where_nothing_comes_back_there_are_no_times() -> None:
    found = account([], 0)
    assert found.waited == 0 and math.isnan(found.first_s) and math.isnan(found.fresh_p95_ms)


def test_a_row_says_at_how_many_cuts_something_was_lost_and_how_much_at_most() -> None:
    row = told("peer", [Missing(5, 0, 0), Missing(9, 4, 0), Missing(12, 2, 1)])
    assert row.startswith("peer: 12 events acknowledged; 2 of 3 cuts wrong, 4 lost at most, 1 doubled")


def test_a_leaf_node_forces_its_store_only_where_that_is_said() -> None:
    leaf = config("edge", Path("/store"), 4222, sync="always", hub="10.77.0.2")
    assert "sync_interval: always" in leaf and 'url: "nats-leaf://10.77.0.2:7422"' in leaf
    assert "sync_interval" not in config("hub", Path("/store"), 4222, accepts="10.77.0.2")


def test_a_plain_queue_sends_the_oldest_that_the_receiver_has_not() -> None:
    lines = [event(number, 10**18) for number in range(1000)]
    batch = next_batch(lines, 3)
    assert batch.startswith(b"3 1000") and 0 < len(batch) <= BATCH_BYTES and len(batch) % len(lines[0]) == 0
    assert next_batch(lines, 1000) == b""


def test_of_a_segment_that_grows_each_event_is_read_once_and_half_a_frame_later(tmp_path: Path) -> None:
    path, read = tmp_path / "1-events.seg", dict[Path, int]()
    frames = [
        pack(
            Stored(
                kind=SpoolClass.EVENTS,
                boot=1,
                stream="beacon.token",
                number=n,
                time_ns=n,
                payload=b"\x81\xa7payload\x81\xa4text\xa1" + b"%d" % n,
            )
        )
        for n in range(3)
    ]
    path.write_bytes(MAGIC + frames[0] + frames[1][:20])
    assert [seen.number for seen in new_events(tmp_path, read)] == [0]
    path.write_bytes(MAGIC + b"".join(frames))
    assert [seen.number for seen in new_events(tmp_path, read)] == [1, 2]


def test_an_hour_says_what_it_takes_and_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert (arguments([]).events, arguments([]).systems) == (HOUR, [])
    assert (arguments(["50", "queue"]).events, arguments(["50", "queue"]).systems) == (50, ["queue"])
    for wrong, said in ((["--help"], "made without a link"), (["many"], "invalid int"), (["5", "kafka"], "kafka")):
        with pytest.raises(SystemExit):
            arguments(wrong)
        printed = capsys.readouterr()
        assert said in printed.out + printed.err


@pytest.mark.real
def test_nats_that_forces_each_event_to_the_disk_keeps_all_and_by_default_does_not(tmp_path: Path) -> None:
    require_peer("nats")
    if reason := why_no_disk(tmp_path):
        pytest.skip(reason)
    for sync, kept in (("always", True), ("", False)):
        folder = tmp_path / (sync or "default")
        folder.mkdir()
        points = cut(folder, 4, sync)
        assert all(point.lost == 0 for point in points) is kept and not any(point.doubled for point in points)
