"""How likely each configuration is to be right on a sample, judged by its first units.

The input is what the paper takes, whether the senses agree (cosine of each pair of first features, and its
complement), and the first features themselves, which show noise, blur and darkness; then, per modality, which size and
unit length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError
from thalweg.models.senses.incremental import Mlp, sigmoid

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PredictedChoice:
    """Of one modality: which size (index, smallest first) and which unit length (index, shortest first)."""

    size: int
    unit: int


def first_input(modalities: Sequence[str], first: Mapping[str, Array]) -> Array:
    """[pairs · 2 + modalities · channel]; a modality that has given nothing yet counts as zeros."""
    channels = len(next(iter(first.values())))
    vectors = [first.get(m, np.zeros(channels, np.float32)) for m in modalities]
    agreement: list[float] = []
    for a, b in combinations(vectors, 2):
        cosine = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-6))
        agreement += [cosine, 1 - cosine]
    return np.concatenate([np.array(agreement, np.float32), *vectors])


def choice_input(choices: Sequence[PredictedChoice], sizes: int = 3, units: int = 3) -> Array:
    """[modalities · (sizes + units)], one of each set."""
    row = np.zeros((len(choices), sizes + units), np.float32)
    for i, choice in enumerate(choices):
        row[i, choice.size] = row[i, sizes + choice.unit] = 1
    return row.reshape(-1)


class Predictor:
    """Predicts for a fixed list of candidates; what does not depend on the sample is computed once."""

    def __init__(self, net: Mlp, modalities: Sequence[str], candidates: Sequence[Sequence[PredictedChoice]]) -> None:
        if not candidates:
            raise ModelError("there is no configuration to predict for")
        self._net, self._modalities = net, tuple(modalities)
        first, *self._rest = net.layers
        rows = np.stack([choice_input(choices) for choices in candidates])
        self._sample_weight = np.ascontiguousarray(first.weight[: -rows.shape[1]])
        self._candidates = rows @ first.weight[-rows.shape[1] :] + first.bias  # [candidate, hidden]

    def __call__(self, first: Mapping[str, Array]) -> Array:
        """First features by modality → probability of being right [candidate]."""
        x = np.maximum(self._candidates + first_input(self._modalities, first) @ self._sample_weight, 0)
        for layer in self._rest[:-1]:
            x = np.maximum(layer(x), 0)
        return sigmoid(self._rest[-1](x)[:, 0])
