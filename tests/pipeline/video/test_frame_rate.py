"""How many frames per slot, from measured losses."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.video.frame_rate import MOST, SlotFrames, frames_per_slot


@pytest.mark.parametrize(
    ("miss", "again", "target", "count"),
    [(0.0, 0.0, 0.99, 1), (0.05, 0.05, 0.99, 2), (0.2, 0.2, 0.99, 3), (0.05, 0.5, 0.99, 4), (1.0, 1.0, 0.99, MOST)],
)
def test_the_smallest_count_that_reaches_the_target(miss: float, again: float, target: float, count: int) -> None:
    assert frames_per_slot(miss, again, target) == count


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.5, 0.999))
def test_no_fewer_frames_would_do(miss: float, again: float, target: float) -> None:
    count = frames_per_slot(miss, again, target)
    assert 1 <= count <= MOST
    if count > 1:
        assert miss * again ** (count - 2) > 1 - target


def test_nothing_heard_yet_is_three() -> None:
    assert SlotFrames().count == 3


def test_a_clean_link_gets_one_frame_and_a_bad_one_more() -> None:
    clean, bad = SlotFrames(), SlotFrames()
    dice = random.Random(0)
    for _ in range(200):
        clean.frame(True)
        bad.frame(dice.random() > 0.2)
    assert clean.count == 1
    assert bad.count in (4, 5)


def test_bursts_ask_for_more_than_the_same_loss_one_by_one() -> None:
    single, bursty = SlotFrames(), SlotFrames()
    for i in range(200):
        single.frame(i % 10 != 0)
        bursty.frame(i % 50 >= 5)
    assert single.miss == pytest.approx(bursty.miss, abs=0.08)
    assert bursty.count > single.count


def test_a_link_that_turned_bad_is_noticed_within_thirty_frames() -> None:
    frames = SlotFrames()
    for i in range(230):
        frames.frame(i < 200 or i % 2 == 0)
    assert frames.count >= 4
