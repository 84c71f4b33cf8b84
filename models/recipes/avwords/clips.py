"""Sets of clips: a word, a voice and a face in a window of 0.96 s, deterministic from a seed.

The window is 24 frames at 25 fps and 24, 16 or 12 chunks of 40, 60 or 80 ms. The word starts anywhere in it that
leaves 60 ms before and after; where the voice is slower than that, it is cut at both ends alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.models.recipes.avwords.degrade import Difficulty, add_noise, spoil_view
from thalweg.models.recipes.avwords.mouth import FPS, draw_face, render, shapes
from thalweg.models.recipes.avwords.voices import RATE, Spoken, draw_voice, speak
from thalweg.models.recipes.avwords.words import WORDS

WINDOW_S = 0.96
SAMPLES = round(WINDOW_S * RATE)
FRAMES = round(WINDOW_S * FPS)
_MARGIN_S = 0.06
_SEEDS = {"train": 1, "val": 2, "test": 3}


@dataclass(frozen=True, slots=True)
class Clip:
    """`audio` [15360] float32 at 16 kHz; `frames` [24, 32, 32], float 0…1 before and uint8 after `spoil`."""

    label: int
    audio: NDArray[np.float32]
    frames: NDArray[np.float32] | NDArray[np.uint8]
    voice: str


def make_clips(split: str, count: int, seed: int = 0) -> Iterator[Clip]:
    """`count` clips of `train`, `val` or `test`, words in turn, before anything spoils them.

    The sets share no voice, and no face: each draws its faces from seeds of its own. Raises VoiceError.
    """
    for i in range(count):
        rng = np.random.default_rng((_SEEDS[split], seed, i))
        label = i % len(WORDS)
        voice = draw_voice(split, rng)
        spoken = _trim(speak(WORDS[label].text, voice))
        face = draw_face(rng)
        length_s = len(spoken.samples) / RATE
        room_s = WINDOW_S - 2 * _MARGIN_S - length_s
        start_s = _MARGIN_S + (rng.uniform(0, room_s) if room_s > 0 else room_s / 2)
        times_s = np.arange(FRAMES) / FPS - start_s
        lips = shapes(spoken.phonemes, length_s, times_s)
        yield Clip(label, _place(spoken.samples, start_s), render(lips, face, rng), f"{voice.engine}:{voice.name}")


def spoil(clip: Clip, difficulty: Difficulty, seed: tuple[int, ...]) -> Clip:
    """The clip as bad sensors would have it; the seed decides on everything that is drawn."""
    rng = np.random.default_rng(seed)
    audio = add_noise(clip.audio, difficulty.audio, rng)
    return Clip(clip.label, audio, spoil_view(clip.frames.astype(np.float32), difficulty.video, rng), clip.voice)


def _trim(spoken: Spoken) -> Spoken:
    """Without the silence before and after, and at one loudness."""
    named = [start for name, start in spoken.phonemes if not name.startswith("_")]
    loud = np.flatnonzero(np.abs(spoken.samples) > 0.02 * np.abs(spoken.samples).max())
    start = min(round(named[0] * RATE), int(loud[0]))
    stop = int(loud[-1]) + 1
    samples = spoken.samples[start:stop]
    level = float(np.sqrt(np.mean(samples**2))) + 1e-6
    moved = tuple((name, begin - start / RATE) for name, begin in spoken.phonemes)
    return Spoken((samples * (0.1 / level)).astype(np.float32), moved)


def _place(samples: NDArray[np.float32], start_s: float) -> NDArray[np.float32]:
    window = np.zeros(SAMPLES, np.float32)
    start = round(start_s * RATE)
    source = samples[max(0, -start) :][: SAMPLES - max(0, start)]
    window[max(0, start) : max(0, start) + len(source)] = source
    return window
