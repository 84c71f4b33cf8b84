"""Regions stay on what they were about while the camera moves."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import require_package
from thalweg.deploy.testing import packet, run_stage
from thalweg.pipeline.payload import Regions, VideoFrame
from thalweg.pipeline.video.quantiser import Patch
from thalweg.stages.video.coder import Coder
from thalweg.stages.video.encode import VideoEncoder
from thalweg.stages.vision.drift import Drift

for module in ("av", "cv2"):
    require_package(module, "video")

STEP = 100_000_000
rng = np.random.default_rng(5)
WALL = np.repeat(np.repeat(rng.integers(0, 255, (80, 120, 3), dtype=np.uint8), 8, 0), 8, 1)


def view(i: int) -> NDArray[np.uint8]:
    """A camera that moves left by 16 pixels a frame: the picture moves right. Noise, so that all of it is coded."""
    noise = rng.integers(0, 40, (320, 320, 3), dtype=np.uint8)
    return np.asarray(WALL[80:400, 300 - 16 * i : 620 - 16 * i] // 2 + noise, np.uint8)


def test_the_shifts_of_a_moving_camera_add_up() -> None:
    drift = Drift()
    for i in range(9):
        here = drift.see(view(i), i * STEP)
    assert here == pytest.approx((8 * 16 / 320, 0.0), abs=0.01)
    assert drift.at(4 * STEP) == pytest.approx((4 * 16 / 320, 0.0), abs=0.01)


def test_a_cut_moves_nothing() -> None:
    drift = Drift()
    drift.see(view(0), 0)
    assert drift.see(rng.integers(0, 255, (320, 320, 3), dtype=np.uint8), STEP) == (0.0, 0.0)


@pytest.mark.parametrize("shape", [(1, 1, 3), (40, 60), (40, 60, 1), (40, 60, 4)])
def test_pictures_of_any_kind_are_taken(shape: tuple[int, ...]) -> None:
    drift = Drift()
    drift.see(np.zeros(shape, np.uint8), 0)
    assert drift.see(np.zeros(shape, np.uint8), STEP) == (0.0, 0.0)


def test_a_clock_that_goes_back_starts_anew() -> None:
    drift = Drift()
    for i, time_ns in enumerate((0, STEP, 0)):
        here = drift.see(view(i), time_ns)
    assert here == pytest.approx((16 / 320, 0.0), abs=0.01)


@pytest.mark.parametrize(("carry", "left"), [(True, 12 * 16), (False, 4 * 16)])
def test_the_encoder_keeps_an_old_region_on_what_it_was_about(
    carry: bool, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps: list[tuple[Patch, ...]] = []
    monkeypatch.setattr(Coder, "encode", lambda coder, pixels, layout, time_ns, patches: maps.append(patches) or [])
    region = packet(Regions(boxes=((0.2, 0.4, 0.1, 0.2, 1.0),), half_life_ns=10**12), time=0)
    frames = [packet(VideoFrame(pixels=view(i)), time=i * STEP) for i in range(9)]
    run_stage(VideoEncoder(block=16, carry=carry), {"regions": [region], "frame": frames})
    penalised = {x for patch in maps[-1] if patch.y <= 160 < patch.y + patch.height for x in _columns(patch)}
    sharp = set(range(0, 320, 16)) - penalised
    assert {left, left + 16} <= sharp <= {left - 16, left, left + 16, left + 32}


def _columns(patch: Patch) -> range:
    return range(patch.x, patch.x + patch.width, 16)
