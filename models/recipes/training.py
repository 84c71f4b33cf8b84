"""Training of unit encoders, aggregation and fusion together, then of the gate and the predictor on what they give.

One network serves every configuration: at each step sizes, unit lengths and how much of a sample is seen are drawn
anew. That costs a point of accuracy against a network per configuration, and buys that configurations can be mixed
within a sample and that a decision from a part of a sample means something.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from thalweg.models.recipes.networks import CHANNELS, SIZES
from thalweg.models.senses.aggregation import AggregationConfig, Fusion, TemporalAggregation


@dataclass(frozen=True, slots=True)
class Sense:
    """One modality of a task. `cut(raw, setting)`: a batch of samples as units [batch, time, …] at a setting."""

    name: str
    settings: tuple[int, ...]
    make: Callable[[str], nn.Module]
    cut: Callable[[Tensor, int], Tensor]


@dataclass(frozen=True, slots=True)
class Configuration:
    """Per modality: size and setting. `first`: whether the first unit goes through the smallest encoder."""

    sizes: Mapping[str, str]
    settings: Mapping[str, int]
    first: bool = True


@dataclass(slots=True)
class Pool:
    """Samples of a set. `raw`: modality → [sample, …]; `labels` [sample]."""

    raw: dict[str, Tensor]
    labels: Tensor

    def batches(self, size: int, generator: np.random.Generator) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """The whole pool once, shuffled; a last small batch is left out."""
        order = torch.as_tensor(generator.permutation(len(self.labels)))
        for start in range(0, len(order) - size + 1, size):
            index = order[start : start + size]
            yield {m: raw[index] for m, raw in self.raw.items()}, self.labels[index]


class Network(nn.Module):
    """Everything that is trained end to end."""

    def __init__(self, senses: tuple[Sense, ...], classes: int, config: AggregationConfig) -> None:
        super().__init__()
        self.senses = {sense.name: sense for sense in senses}
        self.encoders = nn.ModuleDict({s.name: nn.ModuleDict({size: s.make(size) for size in SIZES}) for s in senses})
        self.aggregations = nn.ModuleDict({s.name: TemporalAggregation(config) for s in senses})
        self.fusion = Fusion(tuple(self.senses), CHANNELS, classes)

    def features(self, modality: str, raw: Tensor, configuration: Configuration) -> Tensor:
        """Samples of one modality → unit features [batch, time, channel]."""
        units = self.senses[modality].cut(raw, configuration.settings[modality])
        flat = units.reshape(-1, *units.shape[2:])
        encoder = self.encoders[modality]
        assert isinstance(encoder, nn.ModuleDict)
        size = configuration.sizes[modality]
        features: Tensor = encoder[size](flat).reshape(*units.shape[:2], CHANNELS)
        if configuration.first and size != SIZES[0]:
            features = torch.cat([encoder[SIZES[0]](units[:, 0])[:, None], features[:, 1:]], dim=1)
        return features


ALIKE = (0.25, 0.3, 0.45)
"""How often each size is drawn: larger ones a little more often, since they have more to learn."""

MOSTLY_LARGE = (0.1, 0.2, 0.7)


def draw(
    senses: Mapping[str, Sense], generator: np.random.Generator, shares: tuple[float, ...] = ALIKE
) -> Configuration:
    """A configuration at random."""
    return Configuration(
        {m: str(generator.choice(SIZES, p=shares)) for m in senses},
        {m: int(generator.choice(sense.settings)) for m, sense in senses.items()},
        bool(generator.random() < 0.5),
    )


def train_in_two_rounds(network: Network, pool: Pool, epochs: int) -> None:
    """Sizes alike first, then half as long mostly the largest: it pays most for having the smaller ones beside it."""
    train(network, pool, epochs)
    train(network, pool, epochs // 2, seed=1, rate=1.5e-3, shares=MOSTLY_LARGE)


def train(
    network: Network,
    pool: Pool,
    epochs: int,
    seed: int = 0,
    batch: int = 64,
    log: Callable[[str], None] = print,
    rate: float = 3e-3,
    shares: tuple[float, ...] = ALIKE,
) -> None:
    """Train in place. Besides whole samples it sees parts of one modality, and samples without one."""
    generator = np.random.default_rng(seed)
    steps = epochs * (len(pool.labels) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: _rate(i, steps))
    began = time.monotonic()
    for epoch in range(epochs):
        total = right = seen = 0.0
        for raw, labels in pool.batches(batch, generator):
            configuration = draw(network.senses, generator, shares)
            features = {m: network.features(m, raw[m], configuration) for m in network.senses}
            loss, logits = losses(network, features, labels, generator)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
            right += float((logits.argmax(1) == labels).sum())
            seen += len(labels)
        log(f"epoch {epoch + 1}/{epochs} loss {total * batch / seen:.3f} accuracy {right / seen:.3f} "
            f"({time.monotonic() - began:.0f} s)")  # fmt: skip


def losses(
    network: Network, features: dict[str, Tensor], labels: Tensor, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the fused decision, plus a share of each modality's own; and the fused logits."""
    names = list(features)
    if generator.random() < 0.5:
        part = str(generator.choice(names))
        n = features[part].shape[1]
        features[part] = features[part][:, : max(1, math.ceil(n * generator.uniform(0.25, 1.0)))]
    pooled = {m: network.aggregations[m](x) for m, x in features.items()}
    alone = sum(
        (functional.cross_entropy(network.fusion.alone(m, x), labels, label_smoothing=0.05) for m, x in pooled.items()),
        start=torch.zeros(()),
    )
    if len(names) > 1 and generator.random() < 0.15:
        del pooled[str(generator.choice(names))]
    logits = network.fusion(pooled)
    return functional.cross_entropy(logits, labels, label_smoothing=0.05) + 0.3 * alone, logits


@torch.no_grad()
def evaluate(
    network: Network, pool: Pool, configuration: Configuration, seen: Mapping[str, float] | None = None
) -> Tensor:
    """Logits [sample, class]. `seen`: the share of a modality that is used; 0 leaves it out."""
    network.eval()
    found = []
    for start in range(0, len(pool.labels), 256):
        pooled = {}
        for m in network.senses:
            share = 1.0 if seen is None else seen.get(m, 1.0)
            if share > 0:
                x = network.features(m, pool.raw[m][start : start + 256], configuration)
                x = x[:, : max(1, math.ceil(x.shape[1] * share))]
                pooled[m] = network.aggregations[m](x)
        found.append(network.fusion(pooled))
    network.train()
    return torch.cat(found)


def _rate(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / 100)
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))) + 0.01
