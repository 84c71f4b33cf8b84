"""Words recognised where there are none: `bench nothing`.

Sounds without speech for the machine pass through voice activity and the recognisers' stages, on the clock of the audio
as in `bench wer`. All are made here: digital silence, white and pink noise, a keyboard, chords with a beat, and the
babble of six synthetic voices at the far end of a room (which is speech, but needs no answer).
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.journal import Journal
from thalweg.deploy.bench.result import Result
from thalweg.deploy.bench.speech.wer import listener
from thalweg.deploy.bench.speech.wer_sets import Utterance, far
from thalweg.deploy.bench.speech.wer_text import words
from thalweg.models.recipes.asr.corpus.text import Sentences
from thalweg.models.recipes.asr.corpus.voices import voices

RATE = 16_000
Floats = NDArray[np.float32]
Rng = np.random.Generator
SYSTEMS = ("whisper-base", "whisper-tiny.en", "pocketsphinx")
SECONDS = 600
_QUICK_S = 10
_METHOD = "nothing 1"


def sounds() -> dict[str, Callable[[int, Rng], Floats]]:
    """Each makes so many seconds."""
    found: dict[str, Callable[[int, Rng], Floats]] = {
        "silence": lambda seconds, rng: np.zeros(seconds * RATE, np.float32),
        "white noise": lambda seconds, rng: (0.05 * rng.standard_normal(seconds * RATE)).astype(np.float32),
        "pink noise": _pink,
        "keyboard": _keyboard,
        "music": _music,
    }
    return found | ({"babble": _babble} if shutil.which("espeak-ng") else {})


def measure(
    result: Result, quick: bool, model: str | None = None, json_path: Path | None = None, minutes: float | None = None
) -> None:
    """A row per sound and recogniser. `model`: these recognisers only, with commas between."""
    seconds = _QUICK_S if quick else SECONDS
    path = json_path.with_suffix(".jsonl") if json_path is not None else None
    journal = Journal(path, f"{_METHOD} {seconds}", minutes=minutes, rounds=result.rounds)
    systems = tuple(model.split(",")) if model else SYSTEMS
    if wrong := set(systems) - set(SYSTEMS):
        raise BenchError(f"bench nothing knows no {', '.join(sorted(wrong))}: it has {', '.join(SYSTEMS)}")
    for system in systems:
        hear = listener(system)
        for sound, make in sounds().items():
            audio = make(seconds, np.random.default_rng(len(sound)))
            found = journal.find(
                f"{system}: {sound}",
                lambda audio=audio, hear=hear: asdict(hear(Utterance(audio, "", 0.0))),  # type: ignore[misc]
            )
            if found is not None:
                count = len(words(found["text"]))
                result.add(sound, system, 1, "in all", words=count, shown=found["partials"])
                result.add(sound, system, 1, f"s of {seconds}", taken_for_speech=found["speech_s"])
                if count:
                    result.notes.append(f"{system}, {sound}: {found['text'][:200]}")
    if journal.left:
        result.notes.append(f"{journal.left} sounds are left: the same command goes on with them")


def _pink(seconds: int, rng: Rng) -> Floats:
    spectrum = np.fft.rfft(rng.standard_normal(seconds * RATE))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    noise = np.fft.irfft(spectrum, seconds * RATE)
    pink: Floats = (0.05 * noise / noise.std()).astype(np.float32)
    return pink


def _keyboard(seconds: int, rng: Rng) -> Floats:
    """Six strokes a second in bursts, each a thud and a click behind it."""
    out = 1e-3 * rng.standard_normal(seconds * RATE)
    at = 0.5
    while at < seconds - 0.5:
        for offset, length, loud in ((0.0, 0.012, 0.25), (rng.uniform(0.05, 0.09), 0.006, 0.12)):
            size, begin = round(length * RATE), round((at + offset) * RATE)
            ringing = rng.standard_normal(size) * np.exp(-6 * np.arange(size) / size)
            out[begin : begin + size] += loud * rng.uniform(0.5, 1.0) * ringing
        at += rng.exponential(0.13) + 0.05 + (rng.uniform(0.8, 2.5) if rng.random() < 0.06 else 0)
    return out.astype(np.float32)


def _music(seconds: int, rng: Rng) -> Floats:
    """Four chords over and over with a melody above and a beat below, no voice."""
    out = np.zeros(seconds * RATE)
    beat = RATE // 2
    for n in range(len(out) // beat):
        root = 220 * 2 ** ((0, 5, 7, 3)[n // 4 % 4] / 12)
        notes = [root, root * 2 ** (4 / 12), root * 2 ** (7 / 12), 2 * root * 2 ** (rng.choice([0, 2, 4, 7, 9]) / 12)]
        times = np.arange(beat) / RATE
        fade = np.minimum(1, times / 0.01) * np.exp(-2.5 * times)
        tone = sum(np.sin(2 * np.pi * note * h * times) / h**1.5 for note in notes for h in range(1, 6))
        drum = np.exp(-30 * times) * (np.sin(2 * np.pi * 70 * times) + 0.3 * rng.standard_normal(beat))
        out[n * beat : (n + 1) * beat] = 0.06 * tone * fade + 0.15 * drum
    return out.astype(np.float32)


def _babble(seconds: int, rng: Rng) -> Floats:
    chosen = random.Random("babble")
    speakers = [voice for voice in voices() if voice.name.startswith("espeak")]
    sentences = Sentences(None, None, seed=3)
    out = np.zeros(seconds * RATE, np.float32)
    for voice in chosen.sample(speakers, 6):
        at = round(chosen.random() * RATE)
        while at < len(out):
            said = voice.speak(sentences.next(), chosen)[: len(out) - at]
            out[at : at + len(said)] += said
            at += len(said) + round(chosen.uniform(0.1, 0.8) * RATE)
    heard = far(out, rng)
    babble: Floats = (0.02 * heard / heard.std()).astype(np.float32)
    return babble
