"""Clips of the word task as a pack of samples: audio in ticks of 20 ms, video in frames of 40 ms."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from thalweg.models.recipes.avwords.clips import FRAMES, SAMPLES, Clip, make_clips, spoil
from thalweg.models.recipes.avwords.degrade import CONDITIONS, Difficulty
from thalweg.models.recipes.avwords.words import WORDS
from thalweg.models.senses.packs import write_pack
from thalweg.models.senses.samples import Track

TICK_MS = 20
TRACKS = {"audio": Track(TICK_MS * 1_000_000, "concatenate"), "video": Track(40_000_000, "pick")}


def spoiled_clips(split: str, count: int, condition: str, seed: int = 0) -> list[Clip]:
    """`count` clips of a split under a named condition; deterministic."""
    difficulty = Difficulty(*CONDITIONS[condition])
    return [spoil(clip, difficulty, (seed, i, 11)) for i, clip in enumerate(make_clips(split, count, seed))]


def make_pack(path: Path, split: str, count: int, condition: str, seed: int = 0) -> None:
    """Write a pack for `sensing.replay`."""
    clips = spoiled_clips(split, count, condition, seed)
    audio = np.stack([clip.audio for clip in clips]).reshape(count, -1, SAMPLES * TICK_MS // 960)
    video = np.stack([clip.frames for clip in clips])
    assert video.shape[1] == FRAMES
    write_pack(path, TRACKS, [WORDS[clip.label].text for clip in clips], {"audio": audio, "video": video})
