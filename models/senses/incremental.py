"""Temporal aggregation unit by unit, and fusion, in numpy: the same numbers as `aggregation.py`, without torch.

Theory of operation. Each layer looks at most two units ahead, so row t of its output is settled once its input is
settled up to t + 2. `push` computes the rows that a new unit settles, one per layer, and they are kept. `answer`
computes what is not settled yet, at most six rows, as if the last unit were the end; squeeze, attention and
difference, which look at everything, are cheap for the tens of units that a sample has. So there is an answer after
any prefix, and it is the one that the batch form gives for this prefix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError

Array = NDArray[np.float32]
Weights = Mapping[str, Array]
"""Names of `state_dict` → arrays [out, in], [channel, 1, 3] or [out]."""

LOOK_AHEAD = 2
"""Units that each layer looks ahead."""


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^−x), without overflow."""
    y: Array = (0.5 * (1.0 + np.tanh(0.5 * x))).astype(np.float32)
    return y


def gelu(x: Array) -> Array:
    """The tanh form of GELU."""
    return (0.5 * x * (1.0 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))).astype(np.float32)


def softmax(x: Array) -> Array:
    """Over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y: Array = (e / e.sum(axis=-1, keepdims=True)).astype(np.float32)
    return y


@dataclass(frozen=True, slots=True)
class Linear:
    """x Wᵀ + b. `weight` [in, out], already turned."""

    weight: Array
    bias: Array

    @classmethod
    def of(cls, weights: Weights, name: str) -> Linear:
        """The layer `name` of a state dict. Raises ModelError where it is missing."""
        try:
            weight = weights[f"{name}.weight"]
            return cls(np.ascontiguousarray(weight.reshape(weight.shape[:2]).T), weights[f"{name}.bias"])
        except KeyError as error:
            raise ModelError(f"the weights have no {error}") from None

    def __call__(self, x: Array) -> Array:
        return x @ self.weight + self.bias


class _Convolution:
    """See `aggregation.DualConvolution`."""

    def __init__(self, weights: Weights, name: str) -> None:
        self._taps = [(weights[f"{name}.{kind}.weight"][:, 0].T, weights[f"{name}.{kind}.bias"]) for kind in _KINDS]
        self._mixes = [Linear.of(weights, f"{name}.{kind}_mix") for kind in _KINDS]

    def rows(self, x: Array, start: int, stop: int) -> Array:
        """Rows `start`…`stop` of the output for the input `x` [time, channel], whose ends are the ends."""
        low, high = start - 2, stop + 2
        inside = x[max(0, low) : high]
        window = np.zeros((high - low, x.shape[1]), np.float32)
        window[max(0, -low) : max(0, -low) + len(inside)] = inside
        total = x[start:stop].copy()
        n = stop - start
        for (taps, bias), mix, by in zip(self._taps, self._mixes, (1, 2), strict=True):
            near = window[2 - by : 2 - by + n] * taps[0] + window[2 : 2 + n] * taps[1]
            total += mix(near + window[2 + by : 2 + by + n] * taps[2] + bias)
        return np.maximum(total, 0)


_KINDS = ("near", "wide")


class _Shift:
    """See `aggregation.Shift`."""

    def rows(self, x: Array, start: int, stop: int) -> Array:
        """As `_Convolution.rows`."""
        n, c = x.shape
        out = x[start:stop].copy()
        time = np.arange(start, stop)
        for i, by in enumerate((-1, 1, -2, 2)):
            source = time + by
            inside = (source >= 0) & (source < n)
            columns = slice(i * c // 4, (i + 1) * c // 4)
            out[inside, columns] = x[source[inside], columns]
        return out


class Aggregation:
    """The weights of one modality's aggregation; shared by every sample. Which parts it has, the names tell."""

    def __init__(self, weights: Weights, *, shift: bool = True) -> None:
        names = {name.partition(".")[0] for name in weights}
        blocks = ["blocks.0", "blocks.1"] if "blocks" in names else []
        self.layers: list[_Shift | _Convolution] = [_Shift()] if shift else []
        self.layers += [_Convolution(weights, name) for name in blocks]

        def linear(name: str) -> Linear | None:
            return Linear.of(weights, name) if name in names else None

        self._squeeze, self._excite = linear("squeeze"), linear("excite")
        self._attend, self._attend_out = linear("attend"), linear("attend_out")
        self._difference = linear("difference")
        self._head, self._head_out = Linear.of(weights, "head"), Linear.of(weights, "head_out")
        self.channels = self._head.weight.shape[0]

    def pool(self, x: Array) -> Array:
        """[time, channel] after the layers → [channel]."""
        if self._squeeze is not None and self._excite is not None:
            x = x * sigmoid(self._excite(np.maximum(self._squeeze(x.mean(axis=0)), 0)))
        if self._attend is not None and self._attend_out is not None:
            pooled = softmax(self._attend_out(np.maximum(self._attend(x), 0))[:, 0]) @ x
        else:
            pooled = x.mean(axis=0)
        n = len(x)
        if self._difference is not None and n > 2:
            change = (x[-1] - x[0]) / (n - 1) + (x[-1] + x[-2] - x[0] - x[1]) / (n - 2)
            pooled = pooled + sigmoid(self._difference(pooled)) * change
        return self._head_out(gelu(self._head(pooled)))

    def batch(self, x: Array) -> Array:
        """All units [time, channel] at once → [channel]: the yardstick for the incremental form."""
        for layer in self.layers:
            x = layer.rows(x, 0, len(x))
        return self.pool(x)


class Aggregator:
    """One sample's units of one modality. Memory grows with the number of units."""

    def __init__(self, aggregation: Aggregation) -> None:
        self._net = aggregation
        self._levels = [np.zeros((32, aggregation.channels), np.float32) for _ in range(len(aggregation.layers) + 1)]
        self._settled = [0] * len(self._levels)

    @property
    def count(self) -> int:
        """Units pushed so far."""
        return self._settled[0]

    def push(self, feature: Array) -> None:
        """Take the next unit's feature [channel] float32."""
        n = self._settled[0]
        if n == len(self._levels[0]):
            self._levels = [np.concatenate([level, np.zeros_like(level)]) for level in self._levels]
        self._levels[0][n] = feature
        self._settled[0] = n + 1
        for i, layer in enumerate(self._net.layers):
            start, stop = self._settled[i + 1], self._settled[i] - LOOK_AHEAD
            if stop > start:
                known = self._levels[i][: self._settled[i]]
                self._levels[i + 1][start:stop] = layer.rows(known, start, stop)
                self._settled[i + 1] = stop

    def answer(self) -> Array:
        """The vector [channel] for the units so far, which must be at least one. Changes nothing."""
        n = self._settled[0]
        if not n:
            raise ModelError("there is no answer before the first unit")
        for i, layer in enumerate(self._net.layers):
            start = self._settled[i + 1]
            self._levels[i + 1][start:n] = layer.rows(self._levels[i][:n], start, n)
        return self._net.pool(self._levels[-1][:n])

    def snapshot(self) -> dict[str, Any]:
        """The units so far; the rest follows from them."""
        return {"units": self._levels[0][: self._settled[0]].copy()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on as the aggregator would have that the snapshot was taken from."""
        self.__init__(self._net)  # type: ignore[misc]
        for feature in state["units"]:
            self.push(feature)


class FusionHead:
    """See `aggregation.Fusion`."""

    def __init__(self, weights: Weights, modalities: tuple[str, ...]) -> None:
        self.modalities = modalities
        self._gates = {m: Linear.of(weights, f"gates.{m}") for m in modalities}
        self._tokens = {m: Linear.of(weights, f"tokens.{m}") for m in modalities}
        self._query, self._key, self._value = (Linear.of(weights, name) for name in ("query", "key", "value"))
        self._mlp, self._mlp_out = Linear.of(weights, "mlp"), Linear.of(weights, "mlp_out")

    def __call__(self, pooled: Mapping[str, Array]) -> Array:
        """Modality → [channel], at least one; → logits [class]."""
        present = [m for m in self.modalities if m in pooled]
        if not present:
            raise ModelError("there is nothing to fuse")
        tokens = np.stack([self._tokens[m](pooled[m]) * sigmoid(self._gates[m](pooled[m])) for m in present])
        scores = self._query(tokens) @ self._key(tokens).T / np.float32(tokens.shape[1] ** 0.5)
        mixed = (tokens + softmax(scores) @ self._value(tokens)).mean(axis=0)
        return self._mlp_out(gelu(self._mlp(mixed)))


class Mlp:
    """Linear layers with ReLU between them: the gate and the predictor."""

    def __init__(self, weights: Weights) -> None:
        count = len({name.partition(".")[0] for name in weights})
        self.layers = [Linear.of(weights, str(i)) for i in range(count)]

    def __call__(self, x: Array) -> Array:
        """[…, in] → […, out], before any last nonlinearity."""
        for layer in self.layers[:-1]:
            x = np.maximum(layer(x), 0)
        return self.layers[-1](x)
