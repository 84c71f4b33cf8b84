"""Pieces of what is large leave at a pace."""

from __future__ import annotations

from thalweg.pipeline.fleet.pacer import PIECE, WITH_QUEUE, WITHOUT, Pacer

LINK_BPS = 400_000


def sent(pacer: Pacer, size: int, now_ns: int = 0) -> int:
    """How long it takes to hand over so much, ns, by whoever waits as told."""
    begin_ns = now_ns
    while size > 0:
        now_ns += pacer.wait_ns(min(size, pacer.piece), now_ns)
        size -= min(size, pacer.piece)
    return now_ns - begin_ns


def test_a_frame_takes_about_as_long_as_the_link_would_keep_it() -> None:
    pacer = Pacer()
    pacer.follow(LINK_BPS, queued_ns=40_000_000)
    frame = 10 * PIECE
    assert sent(pacer, frame) == int(9 * PIECE * 8e9 / (WITH_QUEUE * LINK_BPS) // 9) * 9


def test_a_link_without_a_queue_is_tried_with_more() -> None:
    pacer = Pacer()
    pacer.follow(LINK_BPS, queued_ns=0)
    assert pacer.bps == WITHOUT * LINK_BPS


def test_a_pause_is_followed_by_no_burst() -> None:
    pacer = Pacer()
    pacer.follow(LINK_BPS, queued_ns=40_000_000)
    first = sent(pacer, 20_000)
    assert sent(pacer, 20_000, now_ns=10**12) == first > 0


def test_two_lanes_share_the_pace() -> None:
    pacer = Pacer()
    pacer.follow(LINK_BPS, queued_ns=40_000_000)
    waits = [pacer.wait_ns(PIECE, 0) for _ in range(4)]
    assert waits == [n * waits[1] for n in range(4)] and waits[1] == int(PIECE * 8e9 / (WITH_QUEUE * LINK_BPS))


def test_a_fast_link_is_given_pieces_that_are_worth_a_pause() -> None:
    pacer = Pacer()
    pacer.follow(20_000_000, queued_ns=0)
    assert pacer.piece == 10_000
