"""The quantiser map: even without regions, never boosting, coarser with distance; its rectangles tile the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.video.quantiser import Shape, levels, patches, penalties
from thalweg.pipeline.video.regions import Box, usable

MIDDLE: Box = (0.4, 0.4, 0.2, 0.2, 1.0)
number = st.floats(allow_nan=True, allow_infinity=True, width=32)
any_boxes = st.lists(st.tuples(number, number, number, number, number), max_size=20)
size = st.integers(1, 700)


def test_without_a_region_or_without_strength_the_picture_is_coded_evenly() -> None:
    assert not penalties([], 640, 480).any()
    assert not penalties([MIDDLE], 640, 480, strength=0.0).any()
    assert not penalties([MIDDLE], 640, 480, strength=float("nan")).any()


def test_the_map_has_the_published_values() -> None:
    # One row of ten blocks, the region in the first: d = 0, 0, 64, … 512; d_max = 512; QP = 51·(1 − r³).
    row = penalties([(0.0, 0.0, 0.1, 1.0, 1.0)], 640, 64, shape=Shape(gamma=3.0, block=64))[0]
    distance = np.array([0, 0, 64, 128, 192, 256, 320, 384, 448, 512])
    expected = np.clip(np.rint(51 * (1 - (1 - distance / 512) ** 3)) - 26, 0, 25)
    assert row.tolist() == expected.tolist()


def test_a_larger_gamma_narrows_the_halo() -> None:
    wide, narrow = (penalties([MIDDLE], 640, 480, shape=Shape(gamma=gamma)) for gamma in (2.0, 6.0))
    assert (narrow >= wide).all() and narrow.sum() > wide.sum()


def test_a_lighter_region_gets_less() -> None:
    found = penalties([(0.0, 0.0, 0.1, 0.1, 1.0), (0.9, 0.9, 0.1, 0.1, 0.5)], 640, 480)
    assert found[0, 0] == 0 < found[-1, -1]


@given(any_boxes, size, size, st.floats(0, 1), st.integers(0, 51))
def test_whatever_the_regions_the_map_stays_in_bounds(
    boxes: list[Box], width: int, height: int, strength: float, floor: int
) -> None:
    found = penalties(usable(boxes), width, height, shape=Shape(floor=floor, block=64), strength=strength)
    assert found.shape == (-(-height // 64), -(-width // 64))
    assert found.min() >= 0 and found.max() <= min(floor, 25)


def test_a_box_of_half_the_weight_is_spared_half_and_one_that_hardly_counts_nothing() -> None:
    boxes: list[Box] = [(0.0, 0.0, 0.1, 0.1, 0.8), (0.45, 0.45, 0.1, 0.1, 0.4), (0.9, 0.9, 0.1, 0.1, 0.1)]
    found = penalties(boxes, 640, 640, shape=Shape(floor=20))
    assert (found[0, 0], found[10, 10], found[19, 19], found[0, 19]) == (0, 10, 20, 20)


@given(any_boxes, size, size)
def test_the_rectangles_of_a_map_cover_each_block_once(boxes: list[Box], width: int, height: int) -> None:
    found = penalties(usable(boxes), width, height, shape=Shape(block=16))
    painted = np.zeros((height, width), np.int64)
    for patch in patches(found, width, height, 16):
        painted[patch.y : patch.y + patch.height, patch.x : patch.x + patch.width] += patch.penalty
    wanted = np.repeat(np.repeat(found, 16, 0), 16, 1)[:height, :width]
    assert (painted == wanted).all()


@pytest.mark.parametrize("count", [2, 4, 8])
def test_levels_keep_zero_and_the_largest_and_are_few(count: int) -> None:
    found = penalties([MIDDLE], 1280, 960)
    few = levels(found, count)
    assert len(np.unique(few)) <= count
    assert (few.min(), few.max()) == (found.min(), found.max())
