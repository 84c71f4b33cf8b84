"""The gate and the predictor: small networks trained on what a finished network gives on voices it has not heard.

On its own training samples a network is nearly always right, also from a part; a gate trained there would skip
everything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from thalweg.models.recipes.networks import SIZES
from thalweg.models.recipes.training import Configuration, Network, Pool, draw
from thalweg.models.senses.bundle import gate_input
from thalweg.models.senses.incremental import Mlp
from thalweg.models.senses.predictor import PredictedChoice, choice_input, first_input

CHECKPOINTS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(slots=True)
class GateData:
    """Per sample: `inputs` [sample, checkpoint, value], `right` [sample, checkpoint], `right_whole` [sample]."""

    inputs: NDArray[np.float32]
    right: NDArray[np.bool_]
    right_whole: NDArray[np.bool_]


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them; saved with `mlp_arrays`."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def mlp_arrays(net: nn.Sequential, prefix: str = "") -> dict[str, NDArray[np.float32]]:
    """As `incremental.Mlp` reads them: layers numbered without gaps."""
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    return {
        f"{prefix}{i}.{name}": value.detach().numpy().astype(np.float32)
        for i, layer in enumerate(linear)
        for name, value in layer.state_dict().items()
    }


@torch.no_grad()
def gate_data(network: Network, pool: Pool, configuration: Configuration, slow: str) -> GateData:
    """What the gate would see at each checkpoint with every modality but `slow` whole."""
    names = tuple(network.senses)
    network.eval()
    features = {m: network.features(m, pool.raw[m], configuration) for m in names}
    pooled = {m: network.aggregations[m](x) for m, x in features.items()}
    whole = network.fusion(pooled).argmax(1) == pool.labels
    inputs, right = [], []
    n = features[slow].shape[1]
    for checkpoint in CHECKPOINTS:
        count = max(1, math.ceil(n * checkpoint - 1e-9))
        part = {**pooled, slow: network.aggregations[slow](features[slow][:, :count])}
        logits = network.fusion(part)
        right.append((logits.argmax(1) == pool.labels).numpy())
        arrays = {m: x.numpy() for m, x in part.items()}
        seen = {m: (count / n if m == slow else 1.0) for m in names}
        inputs.append(
            np.stack([
                gate_input(names, {m: x[i] for m, x in arrays.items()}, seen, logits[i].numpy())
                for i in range(len(logits))
            ])
        )  # fmt: skip
    network.train()
    return GateData(np.stack(inputs, 1), np.stack(right, 1), whole.numpy())


def train_gate(network: Network, pool: Pool, seed: int = 0, rounds: int = 6) -> nn.Sequential:
    """BCE on: the partial decision is right, or the whole one is wrong too, so that skipping would do no harm."""
    generator = np.random.default_rng(seed)
    xs, ys = [], []
    for i in range(rounds):
        configuration = draw(network.senses, generator)
        slow = list(network.senses)[0 if i % 3 == 0 else -1]
        data = gate_data(network, pool, configuration, slow)
        xs.append(data.inputs.reshape(-1, data.inputs.shape[-1]))
        ys.append((data.right | ~data.right_whole[:, None]).reshape(-1))
    return _fit(np.concatenate(xs), np.concatenate(ys).astype(np.float32), (128, 64), seed)


def gate_scores(net: nn.Sequential, data: GateData) -> NDArray[np.float32]:
    """The gate's probabilities [sample, checkpoint], as `incremental.Mlp` computes them."""
    logits = Mlp(mlp_arrays(net))(data.inputs)[..., 0]
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


@torch.no_grad()
def _first(network: Network, pool: Pool) -> list[NDArray[np.float32]]:
    """Input of the predictor per sample: first units through the smallest encoders, at the shortest units."""
    names = tuple(network.senses)
    smallest = Configuration(dict.fromkeys(names, SIZES[0]), {m: s.settings[0] for m, s in network.senses.items()})
    features = {m: network.features(m, pool.raw[m], smallest)[:, 0].numpy() for m in names}
    return [first_input(names, {m: x[i] for m, x in features.items()}) for i in range(len(pool.labels))]


def train_predictor(network: Network, pool: Pool, seed: int = 0) -> nn.Sequential:
    """BCE on whether a configuration's decision on the whole sample is right."""
    return fit_predictor(*predictor_data(network, pool), seed=seed)


def fit_predictor(
    x: NDArray[np.float32], y: NDArray[np.float32], columns: slice | None = None, seed: int = 0
) -> nn.Sequential:
    """The same on given data. `columns`: the only inputs it may see beside the configuration, for ablation."""
    return _fit(x if columns is None else keep(x, columns), y, (64, 64), seed, epochs=2)


def keep(x: NDArray[np.float32], columns: slice, configuration: int = 12) -> NDArray[np.float32]:
    """Inputs with zeros everywhere but in `columns` and in the last `configuration` ones."""
    kept = np.zeros(x.shape[1], bool)
    kept[columns] = True
    kept[-configuration:] = True
    return np.where(kept, x, 0).astype(np.float32)


@torch.no_grad()
def predictor_data(network: Network, pool: Pool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Inputs [sample · configuration, value], and whether the decision was right, for every configuration."""
    network.eval()
    first = np.stack(_first(network, pool))
    pooled = {
        m: {
            PredictedChoice(i, j): network.aggregations[m](
                network.features(m, pool.raw[m], Configuration({m: size}, {m: setting}, True))
            )
            for (i, size), (j, setting) in product(enumerate(SIZES), enumerate(sense.settings))
        }
        for m, sense in network.senses.items()
    }
    network.train()
    xs, ys = [], []
    for choices in product(*pooled.values()):
        parts = {m: pooled[m][choice] for m, choice in zip(pooled, choices, strict=True)}
        right = network.fusion(parts).argmax(1) == pool.labels
        row = np.tile(choice_input(choices), (len(first), 1))
        xs.append(np.concatenate([first, row], axis=1))
        ys.append(right.numpy().astype(np.float32))
    return np.concatenate(xs), np.concatenate(ys)


def _fit(
    x: NDArray[np.float32], y: NDArray[np.float32], hidden: tuple[int, ...], seed: int, epochs: int = 12
) -> nn.Sequential:
    torch.manual_seed(seed)
    net = mlp((x.shape[1], *hidden, 1))
    inputs, wanted = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.05)
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        order = torch.as_tensor(generator.permutation(len(x)))
        for start in range(0, len(order), 256):
            index = order[start : start + 256]
            loss: Tensor = functional.binary_cross_entropy_with_logits(net(inputs[index])[:, 0], wanted[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    net.eval()
    return net
