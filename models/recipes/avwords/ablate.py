"""What each part of the temporal aggregation is worth: the same encoders, one part left out at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from thalweg.models.aggregation import AggregationConfig
from thalweg.models.recipes.avwords.degrade import CONDITIONS, Difficulty
from thalweg.models.recipes.avwords.task import SENSES, make_pool
from thalweg.models.recipes.avwords.words import WORDS
from thalweg.models.recipes.finish import PLAIN, accuracy, best, retrain
from thalweg.models.recipes.networks import CHANNELS
from thalweg.models.recipes.training import Network

PARTS = ("shift", "convolutions", "squeeze", "attention", "difference")


def ablate(weights: Path, path: Path, clips: int = 2040) -> None:
    """Train aggregation and fusion anew on frozen encoders, all variants alike; accuracy on test voices and faces.

    Writes `{variant: {condition: accuracy}}`. Every variant is trained once: differences below a point are noise.
    """
    torch.set_num_threads(1)
    network = Network(SENSES, len(WORDS), AggregationConfig(CHANNELS))
    network.load_state_dict(torch.load(weights, weights_only=True))
    pool = make_pool("train", clips, None, versions=2)
    tests = {name: make_pool("test", 680, Difficulty(*d), seed=4) for name, d in CONDITIONS.items()}
    whole = AggregationConfig(CHANNELS)
    variants = {"all": whole}
    variants |= {f"without {part}": replace(whole, **{part: False}) for part in PARTS}
    variants["plain pooling"] = PLAIN
    found = {}
    for name, config in variants.items():
        trained = retrain(network, pool, len(WORDS), config)
        found[name] = {condition: accuracy(trained, test, best(trained)) for condition, test in tests.items()}
        print(name, found[name], flush=True)
    path.write_text(json.dumps(found, indent=2) + "\n")
