"""The senses of the vehicle task and its pools of samples, for training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.models.recipes.networks import FrameUnit, VectorUnit
from thalweg.models.recipes.training import Pool, Sense
from thalweg.models.recipes.vehicle.pack import scenes
from thalweg.models.recipes.vehicle.scene import BEAMS

STRIDES = (1, 2, 3)


def _every(ticks: Tensor, stride: int) -> Tensor:
    return ticks[:, ::stride]


def _range_unit(size: str) -> nn.Module:
    return VectorUnit(size, BEAMS)


SENSES = (Sense("camera", STRIDES, FrameUnit, _every), Sense("range", STRIDES, _range_unit, _every))


def make_pool(split: str, count: int, difficulty: tuple[float, float] | None, seed: int = 0) -> Pool:
    """The same for training."""
    made = scenes(split, count, difficulty, seed)
    raw = {
        "camera": torch.from_numpy(np.stack([s.frames for s in made])),
        "range": torch.from_numpy(np.stack([s.lines for s in made])),
    }
    return Pool(raw, torch.tensor([s.label for s in made]))
