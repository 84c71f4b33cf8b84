"""Temporal aggregation of unit features and their fusion, after MMEdge (arXiv 2510.25327), for training.

Read from top to bottom: units of one modality [batch, time, channel] become one vector, vectors of several
modalities become a decision. `incremental.py` computes the same unit by unit, without torch.

Everything looks at most two units ahead per layer, six in all, so that what is older than that is settled and need
not be computed again when the next unit comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class AggregationConfig:
    """`channels`: of a unit's feature, a multiple of 16. Every part can be left out, for ablation.

    Without attention the units are averaged; with everything left out this is plain mean pooling and a small MLP.
    """

    channels: int = 64
    shift: bool = True
    convolutions: bool = True
    squeeze: bool = True
    attention: bool = True
    difference: bool = True


class Shift(nn.Module):
    """A quarter of the channels from each of the units −1, +1, −2, +2 away; the ends keep their own value."""

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, channel] → the same."""
        parts = []
        for quarter, by in zip(x.chunk(4, dim=-1), (1, -1, 2, -2), strict=True):
            moved = torch.roll(quarter, by, dims=1)
            time = torch.arange(x.shape[1], device=x.device)
            kept = (time < by) if by > 0 else (time >= x.shape[1] + by)
            parts.append(torch.where(kept[None, :, None], quarter, moved))
        return torch.cat(parts, dim=-1)


class DualConvolution(nn.Module):
    """Two depthwise convolutions over time, near and dilated, each followed by 1 × 1; summed, residual, ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.near = nn.Conv1d(channels, channels, 3, padding=1, groups=channels)
        self.near_mix = nn.Conv1d(channels, channels, 1)
        self.wide = nn.Conv1d(channels, channels, 3, padding=2, dilation=2, groups=channels)
        self.wide_mix = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, channel] → the same."""
        turned = x.transpose(1, 2)
        mixed = self.near_mix(self.near(turned)) + self.wide_mix(self.wide(turned))
        return torch.relu(x + mixed.transpose(1, 2))


class TemporalAggregation(nn.Module):
    """All units of one modality as one vector."""

    def __init__(self, config: AggregationConfig) -> None:
        super().__init__()
        c = config.channels
        self.config = config
        self.shift = Shift()
        self.blocks = nn.ModuleList(DualConvolution(c) for _ in range(2)) if config.convolutions else nn.ModuleList()
        if config.squeeze:
            self.squeeze = nn.Linear(c, c // 16)
            self.excite = nn.Linear(c // 16, c)
        if config.attention:
            self.attend = nn.Linear(c, 64)
            self.attend_out = nn.Linear(64, 1)
        if config.difference:
            self.difference = nn.Linear(c, c)
        self.head = nn.Linear(c, c)
        self.head_out = nn.Linear(c, c)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, channel] → [batch, channel]."""
        config, n = self.config, x.shape[1]
        if config.shift:
            x = self.shift(x)
        for block in self.blocks:
            x = block(x)
        if config.squeeze:
            x = x * torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean(dim=1)))))[:, None]
        if config.attention:
            weights = torch.softmax(self.attend_out(torch.relu(self.attend(x))), dim=1)  # [batch, time, 1]
            pooled = (weights * x).sum(dim=1)
        else:
            pooled = x.mean(dim=1)
        if config.difference and n > 2:
            change = (x[:, 1:] - x[:, :-1]).mean(dim=1) + (x[:, 2:] - x[:, :-2]).mean(dim=1)
            pooled = pooled + torch.sigmoid(self.difference(pooled)) * change
        head: Tensor = self.head_out(functional.gelu(self.head(pooled), approximate="tanh"))
        return head


class Fusion(nn.Module):
    """Vectors of any of the modalities as logits: gated tokens, self-attention among those there are, mean, MLP.

    A modality that is absent has no token, so the others' attention does not see it.
    """

    def __init__(self, modalities: tuple[str, ...], channels: int, classes: int) -> None:
        super().__init__()
        self.modalities = modalities
        self.gates = nn.ModuleDict({m: nn.Linear(channels, channels) for m in modalities})
        self.tokens = nn.ModuleDict({m: nn.Linear(channels, channels) for m in modalities})
        self.heads = nn.ModuleDict({m: nn.Linear(channels, classes) for m in modalities})
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.mlp = nn.Linear(channels, 2 * channels)
        self.mlp_out = nn.Linear(2 * channels, classes)

    def forward(self, pooled: Mapping[str, Tensor]) -> Tensor:
        """Modality → [batch, channel], at least one of them; → logits [batch, class]."""
        present = [m for m in self.modalities if m in pooled]
        tokens = torch.stack(
            [self.tokens[m](pooled[m]) * torch.sigmoid(self.gates[m](pooled[m])) for m in present], dim=1
        )  # [batch, modality, channel]
        scores = self.query(tokens) @ self.key(tokens).transpose(1, 2) / tokens.shape[-1] ** 0.5
        mixed = (tokens + torch.softmax(scores, dim=-1) @ self.value(tokens)).mean(dim=1)
        logits: Tensor = self.mlp_out(functional.gelu(self.mlp(mixed), approximate="tanh"))
        return logits

    def alone(self, modality: str, pooled: Tensor) -> Tensor:
        """What one modality says by itself: logits [batch, class]; only for training."""
        logits: Tensor = self.heads[modality](pooled)
        return logits
