"""Encoders of one unit, in three sizes each, for training. All give a feature of `CHANNELS`, in one shared space.

Sizes share a space because one aggregation follows them all: a sample may begin with the smallest encoder and go on
with another. What a size costs on a machine is measured by `thalweg profile`, not promised here.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor, nn

CHANNELS = 64
SIZES = ("s", "m", "l")
MELS = 32
RATE = 16_000
WINDOW, HOP = 320, 160  # samples: 20 ms, 10 ms


class LogMel(nn.Module):
    """Log mel energies of the frames that lie wholly inside the samples: [batch, sample] → [batch, frame, mel].

    Fourier transform by convolution, so that it exports to ONNX with the encoder behind it.
    """

    def __init__(self) -> None:
        super().__init__()
        time, bins = np.arange(WINDOW), np.arange(WINDOW // 2 + 1)
        angle = 2 * np.pi * bins[:, None] * time[None] / WINDOW
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * time / WINDOW)
        waves = np.concatenate([np.cos(angle) * hann, np.sin(angle) * hann])[:, None]
        self.register_buffer("waves", torch.tensor(waves, dtype=torch.float32))
        self.register_buffer("mel", torch.tensor(_mel_filters(len(bins)), dtype=torch.float32))

    def forward(self, samples: Tensor) -> Tensor:
        waves, mel = self.get_buffer("waves"), self.get_buffer("mel")
        turned = torch.conv1d(samples[:, None], waves, stride=HOP)  # [batch, 2 · bin, frame]
        cos, sin = turned.chunk(2, dim=1)
        energy = (cos * cos + sin * sin).transpose(1, 2) @ mel
        return (torch.log(energy + 1e-4) + 2.0) / 4.0


def _mel_filters(bins: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Triangles [bin, mel] of equal area, 80 Hz … 7.6 kHz, on O'Shaughnessy's mel scale."""
    low, high = 2595 * np.log10(1 + np.array([80, 7600]) / 700)
    edges = 700 * (10 ** (np.linspace(low, high, MELS + 2) / 2595) - 1)
    frequency = np.linspace(0, RATE / 2, bins)[:, None]
    rise = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0, np.minimum(rise, fall)) * (60 / (edges[2:] - edges[:-2])))


class AudioUnit(nn.Module):
    """A chunk as log mel frames [batch, frame, mel] → [batch, channel]; any number of frames."""

    def __init__(self, size: str) -> None:
        super().__init__()
        width, depth = {"s": (4, 1), "m": (16, 1), "l": (96, 3)}[size]
        sizes = [MELS] + [width] * depth
        self.blocks = nn.ModuleList(nn.Conv1d(a, b, 3, padding=1) for a, b in itertools.pairwise(sizes))
        self.out = nn.Linear(2 * width, CHANNELS)

    def forward(self, mel: Tensor) -> Tensor:
        x = mel.transpose(1, 2)
        for block in self.blocks:
            x = torch.relu(block(x))
        out: Tensor = self.out(torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1))
        return out


class AudioExport(nn.Module):
    """Samples [batch, sample] → feature: what is exported."""

    def __init__(self, unit: AudioUnit) -> None:
        super().__init__()
        self.mel, self.unit = LogMel(), unit

    def forward(self, samples: Tensor) -> Tensor:
        out: Tensor = self.unit(self.mel(samples))
        return out


class FrameUnit(nn.Module):
    """A grey picture [batch, 32, 32] uint8 or float → [batch, channel]; smaller sizes look at fewer pixels."""

    def __init__(self, size: str) -> None:
        super().__init__()
        self.shrink, widths = {"s": (4, (2,)), "m": (4, (8,)), "l": (1, (12, 24, 48))}[size]
        sizes = [1, *widths]
        self.blocks = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(sizes))
        self.out = nn.Linear(widths[-1] * 16, CHANNELS)

    def forward(self, frames: Tensor) -> Tensor:
        x = frames[:, None].float()
        spread = x.flatten(1).std(dim=1)[:, None, None, None]
        x = (x - x.mean(dim=(1, 2, 3), keepdim=True)) / (spread + 4.0)
        if self.shrink > 1:
            x = torch.nn.functional.avg_pool2d(x, self.shrink)
        for block in self.blocks:
            x = torch.relu(block(x))
        out: Tensor = self.out(x.flatten(1))
        return out


class VectorUnit(nn.Module):
    """A reading [batch, value] float → [batch, channel]: a ring of ranges, inertial samples."""

    def __init__(self, size: str, values: int) -> None:
        super().__init__()
        widths = {"s": (4,), "m": (16,), "l": (96, 96)}[size]
        sizes = [values, *widths]
        self.blocks = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.out = nn.Linear(widths[-1], CHANNELS)

    def forward(self, reading: Tensor) -> Tensor:
        x = reading
        for block in self.blocks:
            x = torch.relu(block(x))
        out: Tensor = self.out(x)
        return out
