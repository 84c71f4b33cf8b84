"""A baseline of another architecture: one network that takes the whole window at once, and cannot begin earlier.

Convolutions over time (sound) and over time and picture (lips), a bidirectional recurrent layer each, one decision. It
is trained on the samples that the unit-wise network is trained on, and has about as many weights. It decides when both
windows are whole, so its latency is that of `blocking` in the benchmark; what it is here for is its accuracy.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from thalweg.models.recipes.avwords.degrade import CONDITIONS, Difficulty
from thalweg.models.recipes.avwords.task import make_pool
from thalweg.models.recipes.avwords.words import WORDS
from thalweg.models.recipes.networks import MELS
from thalweg.models.recipes.training import Pool

_HIDDEN = 64


class FullWindow(nn.Module):
    """Log mel [batch, frame, mel] and pictures [batch, time, 32, 32] → logits [batch, class]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.sound = nn.Sequential(
            nn.Conv1d(MELS, 96, 5, stride=2, padding=2), nn.ReLU(), nn.Conv1d(96, 96, 5, stride=2, padding=2), nn.ReLU()
        )
        self.lips = nn.Sequential(
            nn.Conv3d(1, 12, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2)), nn.ReLU(),
            nn.Conv3d(12, 24, 3, stride=(1, 2, 2), padding=1), nn.ReLU(),
            nn.Conv3d(24, 48, 3, stride=(1, 2, 2), padding=1), nn.ReLU(),
        )  # fmt: skip
        self.spread = nn.Linear(48 * 16, 96)
        self.listen = nn.GRU(96, _HIDDEN, batch_first=True, bidirectional=True)
        self.watch = nn.GRU(96, _HIDDEN, batch_first=True, bidirectional=True)
        self.decide = nn.Sequential(nn.Dropout(0.3), nn.Linear(4 * _HIDDEN, 128), nn.ReLU(), nn.Linear(128, classes))

    def forward(self, mel: Tensor, frames: Tensor) -> Tensor:
        heard = self.listen(self.sound(mel.transpose(1, 2)).transpose(1, 2))[0].amax(dim=1)
        x = frames[:, None].float()
        x = (x - x.mean(dim=(2, 3, 4), keepdim=True)) / (x.std(dim=(2, 3, 4), keepdim=True) + 4.0)
        x = self.lips(x).transpose(1, 2).flatten(2)
        seen = self.watch(torch.relu(self.spread(x)))[0].amax(dim=1)
        logits: Tensor = self.decide(torch.cat([heard, seen], dim=1))
        return logits


def train(pool: Pool, epochs: int, seed: int = 0, batch: int = 64) -> FullWindow:
    """A trained network; one thread, about two minutes per epoch of ten thousand samples."""
    torch.manual_seed(seed)
    network = FullWindow(len(WORDS))
    generator = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    steps = epochs * (len(pool.labels) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    began = time.monotonic()
    for epoch in range(epochs):
        right = seen = 0
        for raw, labels in pool.batches(batch, generator):
            logits = network(raw["audio"].float(), raw["video"])
            loss = functional.cross_entropy(logits, labels, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            right += int((logits.argmax(1) == labels).sum())
            seen += len(labels)
        print(f"epoch {epoch + 1}/{epochs} accuracy {right / seen:.3f} ({time.monotonic() - began:.0f} s)", flush=True)
    return network.eval()


@torch.no_grad()
def measure(path: Path, clips: int, epochs: int) -> None:
    """Train, and write its accuracy on test voices and faces per condition, and its number of weights, as JSON."""
    torch.set_num_threads(1)
    with torch.enable_grad():
        network = train(make_pool("train", clips, None, versions=2), epochs)
    found: dict[str, float] = {"weights": sum(p.numel() for p in network.parameters())}
    for name, difficulty in CONDITIONS.items():
        test = make_pool("test", 680, Difficulty(*difficulty), seed=4)
        logits = torch.cat([
            network(test.raw["audio"][i : i + 128].float(), test.raw["video"][i : i + 128])
            for i in range(0, len(test.labels), 128)
        ])  # fmt: skip
        found[name] = float((logits.argmax(1) == test.labels).float().mean())
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(found, flush=True)
