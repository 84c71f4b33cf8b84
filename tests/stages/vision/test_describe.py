"""What a picture shows, in plain terms: light, colours, motion, and no more than was found."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import require_package
from thalweg.deploy.testing import packet, run_stage
from thalweg.pipeline.payload import Detections, VideoFrame
from thalweg.stages.vision.describe import PictureInWords

S = 1_000_000_000


@pytest.fixture(autouse=True)
def _opencv() -> None:
    require_package("cv2", "video")


def described(*pictures: NDArray[np.uint8], gap_s: float = 1.0) -> list[list[tuple[str, str]]]:
    frames = [
        packet(VideoFrame(pixels=pixels, layout="rgb24"), time=round(n * gap_s * S))
        for n, pixels in enumerate(pictures)
    ]
    found = run_stage(PictureInWords(people=False), {"frame": frames}).payloads()
    return [[(item.kind, item.text) for item in one.items] for one in found if isinstance(one, Detections)]


def plain(red: int, green: int, blue: int) -> NDArray[np.uint8]:
    return np.full((120, 160, 3), (red, green, blue), np.uint8)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (plain(10, 190, 20), [("colour", "green")]),
        (plain(0, 0, 0), [("light", "dark"), ("colour", "black")]),
        (plain(255, 255, 255), [("light", "bright"), ("colour", "white")]),
        (np.hstack([plain(220, 10, 10), plain(10, 20, 230)]), [("colour", "red"), ("colour", "blue")]),
    ],
)
def test_light_and_colours_are_named(pixels: NDArray[np.uint8], said: list[tuple[str, str]]) -> None:
    (found,) = described(pixels)
    assert sorted(found) == sorted(said)


def test_what_moves_is_seen_from_the_second_picture_on() -> None:
    rng = np.random.default_rng(3)
    still = rng.integers(60, 120, (120, 160, 3)).astype(np.uint8)
    other = still.copy()
    other[40:80, 60:110] = 250
    first, second = described(still, other)
    assert ("motion", "") not in first and ("motion", "") in second


def test_pictures_that_follow_too_soon_are_let_pass_and_tiny_ones_do_no_harm() -> None:
    assert len(described(*[plain(10, 190, 20)] * 5, gap_s=0.3)) == 2
    assert len(described(np.zeros((1, 1, 3), np.uint8), np.zeros((8, 30, 3), np.uint8))) == 2
