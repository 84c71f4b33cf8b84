"""Makes the bundle `vehicle`, with everything but the scenes taken from the word task."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from thalweg.models.recipes.finish import finish
from thalweg.models.recipes.networks import CHANNELS, SIZES
from thalweg.models.recipes.training import Network, train_in_two_rounds
from thalweg.models.recipes.vehicle.scene import BEAMS, CLASSES, CONDITIONS, EASY, FRAMES, LINES, TICK_MS
from thalweg.models.recipes.vehicle.task import SENSES, STRIDES, make_pool
from thalweg.models.senses.aggregation import AggregationConfig


def make_bundle(folder: Path, count: int, epochs: int) -> None:
    """Everything from nothing; needs `thalweg[train]`; one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pool = make_pool("train", count, None)
    network = Network(SENSES, len(CLASSES), AggregationConfig(CHANNELS))
    train_in_two_rounds(network, pool, epochs)
    units_ms = [TICK_MS * stride for stride in STRIDES]
    about = {
        "name": "vehicle",
        "classes": list(CLASSES),
        "kinds": ["easy" if name in EASY else "hard" for name in CLASSES],
        "modalities": {
            "camera": {"sizes": SIZES, "units_ms": units_ms, "window_ms": FRAMES * TICK_MS, "join": "pick"},
            "range": {"sizes": SIZES, "units_ms": units_ms, "window_ms": LINES * TICK_MS, "join": "pick"},
        },
    }
    sizes: dict[str, dict[str, nn.Module]] = {}
    for name, encoders in network.encoders.items():
        assert isinstance(encoders, nn.ModuleDict)
        sizes[name] = dict(encoders.items())
    examples = {
        "camera": (sizes["camera"], torch.zeros(1, 32, 32, dtype=torch.uint8), False),
        "range": (sizes["range"], torch.zeros(1, BEAMS), False),
    }
    held_out = make_pool("val", 4200, None, seed=1)
    calibration = [make_pool("val", 2100, difficulty, seed=2) for difficulty in CONDITIONS.values()]
    finish(network, folder, about, examples, pool, held_out, calibration, "range")
