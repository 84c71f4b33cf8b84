"""Regions over time: unusable ones are left out, old ones fade, missing ones are bridged."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.errors import PayloadError
from thalweg.pipeline.payload import Regions
from thalweg.pipeline.video.regions import KEPT, LIMIT, Box, RegionTrack, between, usable

S = 1_000_000_000
LEFT: Box = (0.125, 0.5, 0.125, 0.125, 1.0)
RIGHT: Box = (0.375, 0.5, 0.125, 0.125, 1.0)


def test_boxes_are_cut_to_the_frame_and_bad_ones_left_out() -> None:
    nan = float("nan")
    given_boxes = [(-0.1, 0.9, 0.3, 0.3, 5.0), (2, 2, 1, 1, 1), (0, 0, 0, 1, 1), (nan, 0, 1, 1, 1), (0, 0, 1, 1, 0)]
    (box,) = usable(given_boxes)
    assert box == pytest.approx((0.0, 0.9, 0.2, 0.1, 1.0))


def test_of_thousands_of_boxes_the_heaviest_are_kept() -> None:
    kept = usable((0.0, 0.0, 0.1, 0.1, weight / 5000) for weight in range(1, 5001))
    assert len(kept) == LIMIT and kept[0][4] == 1.0 and kept[-1][4] > 0.99


def test_an_old_region_loses_half_of_its_worth_every_half_life_and_then_all() -> None:
    track = RegionTrack()
    track.update(0, [LEFT], 0.8, S)
    assert track.at(0) == ((LEFT,), 0.8)
    assert track.at(2 * S)[1] == pytest.approx(0.2)
    assert track.at(60 * S) == ((), 0.0)


def test_between_two_answers_boxes_move_evenly() -> None:
    track = RegionTrack()
    track.update(0, [LEFT], 1.0, S)
    track.update(S, [RIGHT], 0.6, S)
    boxes, strength = track.at(S // 2)
    assert boxes[0] == (0.25, 0.5, 0.125, 0.125, 1.0) and strength == 0.6


def test_a_box_that_is_missing_in_one_answer_fades_instead_of_jumping() -> None:
    (fading,) = between((LEFT,), (), 0.75)
    assert fading == pytest.approx((*LEFT[:4], 0.25))


def test_before_the_first_answer_nothing_matters_more_than_the_rest() -> None:
    track = RegionTrack()
    track.update(S, [LEFT], 1.0, S)
    assert track.at(S - 1) == ((), 0.0)


def test_answers_may_come_out_of_order() -> None:
    track = RegionTrack()
    track.update(S, [RIGHT], 1.0, S)
    track.update(0, [LEFT], 1.0, S)
    assert track.at(S)[0] == (RIGHT,)


def test_a_clock_that_starts_again_starts_the_track_again() -> None:
    track = RegionTrack()
    track.update(3600 * S, [RIGHT], 1.0, S)
    track.update(0, [LEFT], 1.0, S)
    assert track.at(S)[0] == (LEFT,)


@given(st.lists(st.tuples(st.integers(0, 10**12), st.floats(), st.integers(-5, 10**10)), max_size=80))
def test_whatever_comes_in_little_is_kept_and_strength_is_a_share(answers: list[tuple[int, float, int]]) -> None:
    track = RegionTrack()
    for time_ns, confidence, half_life_ns in answers:
        track.update(time_ns, [LEFT, RIGHT], confidence, half_life_ns)
        boxes, strength = track.at(time_ns)
        assert 0 <= strength <= 1 and len(boxes) <= 2 * LIMIT
    assert len(track._answers) <= KEPT


@pytest.mark.parametrize("boxes", [((math.nan, 0, 1, 1, 1),), ((0, 0, math.inf, 1, 1),)])
def test_a_payload_of_regions_that_are_no_numbers_cannot_be_built(boxes: tuple[Box, ...]) -> None:
    with pytest.raises(PayloadError, match="not finite"):
        Regions(boxes=boxes)
