"""Scenes as a pack of samples, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.recipes.vehicle.scene import CLASSES, CONDITIONS, TICK_MS, Scene, draw_scene
from thalweg.models.senses.packs import write_pack
from thalweg.models.senses.samples import Track

TRACKS = {"camera": Track(TICK_MS * 1_000_000, "pick"), "range": Track(TICK_MS * 1_000_000, "pick")}
_SEEDS = {"train": 11, "val": 12, "test": 13}


def scenes(split: str, count: int, difficulty: tuple[float, float] | None, seed: int = 0) -> list[Scene]:
    """`count` scenes, classes in turn; without a `difficulty` each sense has one drawn from 0…1. Deterministic."""
    found = []
    for i in range(count):
        rng = np.random.default_rng((_SEEDS[split], seed, i))
        drawn = difficulty or (float(rng.uniform()), float(rng.uniform()))
        found.append(draw_scene(i % len(CLASSES), drawn, rng))
    return found


def make_pack(path: Path, split: str, count: int, condition: str, seed: int = 0) -> None:
    """Write a pack for `sensing.replay`."""
    made = scenes(split, count, CONDITIONS[condition], seed)
    ticks: dict[str, NDArray[Any]] = {
        "camera": np.stack([s.frames for s in made]),
        "range": np.stack([s.lines for s in made]),
    }
    write_pack(path, TRACKS, [CLASSES[s.label] for s in made], ticks)
