"""Places to land, as a camera and a range scanner find them. A simulation: nothing in it was ever measured.

The camera takes 6 frames in 0.6 s while the vehicle drifts. The scanner sweeps for 1.2 s: 12 lines of 24 heights. A
shadow looks like a hole and a slope like flat ground from above: there the scanner decides, once its sweep has passed
the place. Water and ground are equally flat: there the camera decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASSES = ("clear", "shadow", "water", "slope", "hole", "box", "pole")
EASY = frozenset({"water", "box", "pole"})
"""What the camera can tell apart by itself, where light and blur let it; the others need the scanner."""

CONDITIONS = {"clean": (0.15, 0.15), "noisy": (0.7, 0.6)}
"""Named difficulties: (camera, range), each 0…1."""

FRAMES, LINES, BEAMS, SIZE = 6, 12, 24, 32
TICK_MS = 100


@dataclass(frozen=True, slots=True)
class Scene:
    """`frames` [6, 32, 32] uint8; `lines` [12, 24] float32, heights in metres over the nominal ground."""

    label: int
    frames: NDArray[np.uint8]
    lines: NDArray[np.float32]


def draw_scene(label: int, difficulty: tuple[float, float], rng: np.random.Generator) -> Scene:
    """A scene of class `label`; the generator decides on everything else."""
    what = CLASSES[label]
    x, y = rng.uniform(-0.55, 0.55, 2)
    radius = rng.uniform(0.16, 0.32)
    return Scene(
        label,
        _camera(what, x, y, radius, difficulty[0], rng),
        _range(what, x, y, radius, difficulty[1], rng),
    )


def _camera(
    what: str, x: float, y: float, radius: float, difficulty: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    coarse = rng.normal(0, 0.09, (12, 12))
    drift = rng.uniform(-0.02, 0.02, 2)
    ys, xs = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    light = 0.5 + rng.uniform(-0.15, 0.15) + rng.uniform(-0.12, 0.12) * xs + rng.uniform(-0.12, 0.12) * ys
    frames = []
    for i in range(FRAMES):
        u, v = xs - drift[0] * i, ys - drift[1] * i
        ground = coarse[np.floor((u + 1.5) * 3.9).astype(int) % 12, np.floor((v + 1.5) * 3.9).astype(int) % 12]
        near = np.hypot(u - x, v - y)
        picture = light + ground
        if what == "water":
            picture = light - 0.08 + 0.2 * ground + 0.25 * (np.abs(np.sin(9 * v + 2 * u + i)) > 0.97)
        elif what in ("shadow", "hole"):
            picture = picture - 0.3 * np.clip((radius - near) / 0.06 + 0.5, 0, 1)
        elif what == "slope":
            picture = picture + 0.04 * (u + v)
        elif what == "box":
            inside = (np.abs(u - x) < radius) & (np.abs(v - y) < 0.7 * radius)
            picture = np.where(inside, 0.85, picture)
        elif what == "pole":
            thin = (np.abs(u - x) < 0.05) & (np.abs(v - y) < 0.55)
            picture = np.where(thin, 0.9, picture)
        frames.append(picture)
    seen = np.stack(frames) * rng.uniform(1 - 0.6 * difficulty, 1.05)
    seen = seen + rng.normal(0, 0.015 + 0.12 * difficulty, seen.shape)
    return (np.clip(seen, 0, 1) * 255).astype(np.uint8)


def _range(
    what: str, x: float, y: float, radius: float, difficulty: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    sweep = np.linspace(-0.95, 0.95, LINES)[:, None]
    across = np.linspace(-1, 1, BEAMS)[None]
    heights = rng.normal(0, 0.01, (LINES, BEAMS)) + rng.uniform(-0.02, 0.02) * sweep + rng.uniform(-0.02, 0.02) * across
    near = np.hypot(sweep - x, across - y)
    if what == "hole":
        heights = heights - rng.uniform(0.25, 0.6) * (near < radius)
    elif what == "slope":
        tilt = rng.uniform(0.18, 0.35)
        angle = rng.uniform(0, 2 * np.pi)
        heights = heights + tilt * (np.cos(angle) * sweep + np.sin(angle) * across)
    elif what == "box":
        heights = heights + rng.uniform(0.2, 0.6) * ((np.abs(sweep - x) < radius) & (np.abs(across - y) < 0.7 * radius))
    elif what == "pole":
        heights = heights + 1.0 * ((np.abs(sweep - x) < 0.09) & (np.abs(across - y) < 0.55))
    heights = heights + rng.normal(0, 0.01 + 0.12 * difficulty, heights.shape)
    heights = np.where(rng.random(heights.shape) < 0.15 * difficulty, 0.0, heights)
    return heights.astype(np.float32)
