"""Packets back in order, and capture times from RTP."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.pipeline.duration import MS
from thalweg.transports.webrtc.reorder import Reorder
from thalweg.transports.webrtc.rtp_time import CaptureClock, Unwrap

START = 65_530
TICKS = 960


def push(reorder: Reorder, number: int, now_ms: int) -> list[int | None]:
    """Packet `number` of a stream that soon wraps; returns what is passed on, None for what was lost."""
    timestamp = (4_294_960_000 + number * TICKS) % (1 << 32)
    reorder.push((START + number) % 65_536, timestamp, b"%d" % number, now_ms * MS)
    return [None if unit.data is None else int(unit.data) for unit in reorder.pop(now_ms * MS)]


def test_what_is_in_order_passes_at_once() -> None:
    reorder = Reorder()
    assert [push(reorder, n, n * 20) for n in range(10)] == [[n] for n in range(10)]


def test_two_that_were_swapped_are_swapped_back() -> None:
    reorder = Reorder()
    push(reorder, 0, 0)
    assert push(reorder, 2, 20) == []
    assert push(reorder, 1, 25) == [1, 2]


def test_a_lost_one_is_waited_for_and_then_named() -> None:
    reorder = Reorder(patience_ns=60 * MS)
    push(reorder, 0, 0)
    assert push(reorder, 2, 40) == []
    assert push(reorder, 3, 60) == []
    assert push(reorder, 4, 100) == [None, 2, 3, 4]
    assert push(reorder, 5, 120) == [5]
    assert (reorder.lost, reorder.late) == (1, 0)


def test_one_that_comes_after_it_was_given_up_or_twice_is_dropped() -> None:
    reorder = Reorder(patience_ns=10 * MS)
    push(reorder, 0, 0)
    push(reorder, 2, 40)
    push(reorder, 3, 60)
    assert push(reorder, 1, 61) == []
    assert push(reorder, 3, 62) == []
    assert reorder.late == 2


def test_one_forged_number_does_not_move_the_stream() -> None:
    reorder = Reorder()
    push(reorder, 0, 0)
    reorder.push(30_000, 5, b"0", 0)
    assert list(reorder.pop(0)) == []
    assert push(reorder, 1, 20) == [1]
    assert reorder.stray == 1


def test_a_sender_that_begins_anew_is_followed() -> None:
    reorder = Reorder()
    push(reorder, 0, 0)
    for number in range(3):
        reorder.push(30_000 + number, 5, b"%d" % number, 20 * MS)
    assert [int(unit.data or b"9") for unit in reorder.pop(20 * MS)] == [1, 2]


@given(st.integers(0, 2**32), st.floats(0, 0.2))
@settings(max_examples=100, deadline=None)
def test_however_they_come_they_leave_in_order_each_once_or_named_as_lost(seed: int, loss: float) -> None:
    chance = random.Random(seed)
    arrivals = sorted((n * 20 + chance.uniform(0, 70), n) for n in range(200) if n == 0 or chance.random() >= loss)
    arrivals = [arrivals[[n for _, n in arrivals].index(0)], *(a for a in arrivals if a[1] != 0)]
    reorder = Reorder(patience_ns=100 * MS)
    passed = [unit for at, n in arrivals for unit in push(reorder, n, int(max(at, arrivals[0][0])))]
    got = [n for n in passed if n is not None]
    assert got == sorted(set(got))
    assert len(got) + reorder.late >= len(arrivals) - 50


def test_numbers_unwrap_both_ways() -> None:
    unwrap = Unwrap(16)
    assert [unwrap(n) for n in (65_534, 65_535, 0, 65_535, 1)] == [65_534, 65_535, 65_536, 65_535, 65_537]


def test_capture_times_do_not_jitter_where_arrivals_do() -> None:
    clock, chance = CaptureClock(48_000), random.Random(1)
    found = [clock.capture_ns(n * TICKS, n * 20 * MS + int(chance.uniform(0, 30) * MS)) for n in range(500)]
    steps = [b - a for a, b in pairwise(found[100:])]
    assert max(steps) <= 21 * MS
    assert min(steps) >= 19 * MS


def test_clocks_that_drift_apart_are_followed() -> None:
    clock = CaptureClock(48_000, window_ns=2_000 * MS)
    late = [clock.capture_ns(n * TICKS, n * 20 * MS * 10_001 // 10_000) - n * 20 * MS for n in range(3000)]
    assert late[-1] == pytest.approx(6 * MS, abs=1 * MS)


def test_picture_and_sound_of_one_sender_are_put_on_one_clock_by_its_reports() -> None:
    sound, picture = CaptureClock(48_000), CaptureClock(90_000)
    sound.capture_ns(0, 100 * MS)
    picture.capture_ns(0, 180 * MS)  # the picture took 80 ms longer
    ntp = 1 << 32
    sound.sender_report(ntp, 48_000)
    picture.sender_report(ntp, 90_000)
    picture.align(sound)
    assert picture.capture_ns(90_000, 1180 * MS) == sound.capture_ns(48_000, 1100 * MS)
