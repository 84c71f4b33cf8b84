"""What each part of the temporal aggregation is worth: the same encoders, one part left out at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from thalweg.models.recipes.avwords.degrade import CONDITIONS, Difficulty
from thalweg.models.recipes.avwords.task import SENSES, make_pool
from thalweg.models.recipes.avwords.words import WORDS
from thalweg.models.recipes.finish import PLAIN, accuracy, best, retrain
from thalweg.models.recipes.heads import fit_predictor, keep, predictor_data
from thalweg.models.recipes.networks import CHANNELS
from thalweg.models.recipes.training import Network
from thalweg.models.senses.aggregation import AggregationConfig

PARTS = ("shift", "convolutions", "squeeze", "attention", "difference")


def ablate(weights: Path, path: Path, clips: int = 2040) -> None:
    """Train aggregation and fusion anew on frozen encoders, all variants alike; accuracy on test voices and faces.

    Writes `{aggregation: {variant: {condition: accuracy}}, predictor: …}`. Every variant is trained once: differences
    below a point are noise.
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
    predictor = ablate_predictor(weights)
    path.write_text(json.dumps({"aggregation": found, "predictor": predictor}, indent=2) + "\n", encoding="utf-8")


def ablate_predictor(weights: Path, clips: int = 1020) -> dict[str, dict[str, float]]:
    """What the predictor's inputs are worth where difficulty changes from sample to sample.

    Per set of inputs: `auc`, how well it ranks right above wrong decisions (0.5 is chance), and `chosen`, accuracy when
    each sample gets the configuration with the highest prediction. `average` chooses one for all, by validation
    accuracy.
    """
    torch.set_num_threads(1)
    network = Network(SENSES, len(WORDS), AggregationConfig(CHANNELS))
    network.load_state_dict(torch.load(weights, weights_only=True))
    val, test = (make_pool(split, clips, None, seed=6) for split in ("val", "test"))
    data, held_out = predictor_data(network, val), predictor_data(network, test)
    n = len(test.labels)
    right = held_out[1].reshape(-1, n)  # [configuration, sample]
    average = int(data[1].reshape(-1, len(val.labels)).mean(axis=1).argmax())
    found = {"average": {"auc": float("nan"), "chosen": float(right[average].mean())}}
    inputs = {"all": slice(None), "agreement": slice(0, 2), "features": slice(2, -12), "nothing": slice(0, 0)}
    for name, columns in inputs.items():
        net = fit_predictor(*data, columns)
        with torch.no_grad():
            predicted = net(torch.from_numpy(keep(held_out[0], columns)))[:, 0].numpy()
        pick = predicted.reshape(-1, n).argmax(axis=0)
        found[name] = {"auc": auc(predicted, held_out[1] > 0.5), "chosen": float(right[pick, np.arange(n)].mean())}
        print(name, found[name], flush=True)
    return found


def auc(scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """Probability that a true one scores above a false one."""
    ranks = np.empty(len(scores))
    ranks[scores.argsort()] = np.arange(len(scores))
    positive = int(truth.sum())
    return float((ranks[truth].sum() - positive * (positive - 1) / 2) / (positive * (len(scores) - positive)))
