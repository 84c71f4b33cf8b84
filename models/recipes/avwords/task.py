"""The senses of the word task and its pools of samples."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from thalweg.models.recipes.avwords.clips import make_clips, spoil
from thalweg.models.recipes.avwords.degrade import Difficulty
from thalweg.models.recipes.networks import HOP, RATE, WINDOW, AudioUnit, FrameUnit, LogMel
from thalweg.models.recipes.training import Pool, Sense

CHUNKS_MS = (40, 60, 80)
STRIDES = (1, 2, 3)


def _chunks(mel: Tensor, chunk_ms: int) -> Tensor:
    """Mel frames [batch, 95, mel], one per hop, as chunks: the frames that lie wholly inside each chunk."""
    per = chunk_ms * RATE // 1000 // HOP
    usable = mel.shape[1] + WINDOW // HOP - 1
    padded = torch.nn.functional.pad(mel, (0, 0, 0, usable - mel.shape[1]))
    chunks = padded.reshape(len(mel), usable // per, per, mel.shape[2])
    return chunks[:, :, : per - WINDOW // HOP + 1].float()


def _frames(frames: Tensor, stride: int) -> Tensor:
    return frames[:, ::stride]


SENSES = (
    Sense("audio", CHUNKS_MS, AudioUnit, _chunks),
    Sense("video", STRIDES, FrameUnit, _frames),
)


@torch.no_grad()
def make_pool(split: str, count: int, difficulty: Difficulty | None, seed: int = 0, versions: int = 1) -> Pool:
    """`count` clips, each spoiled `versions` times; without a `difficulty` each sense has one drawn from 0…1."""
    mel = LogMel()
    audio, video, labels = [], [], []
    for i, clip in enumerate(make_clips(split, count, seed)):
        for version in range(versions):
            drawn = np.random.default_rng((seed, i, version)).uniform(0, 1, 2)
            spoiled = spoil(clip, difficulty or Difficulty(*drawn), (seed, i, version, 7))
            audio.append(mel(torch.from_numpy(spoiled.audio)[None])[0].half())
            video.append(torch.from_numpy(spoiled.frames))
            labels.append(clip.label)
    return Pool({"audio": torch.stack(audio), "video": torch.stack(video)}, torch.tensor(labels))
