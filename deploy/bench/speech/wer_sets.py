"""What `bench wer` lets recognisers hear: people and held-out synthetic voices, clean and as they may arrive."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thalweg.models.recipes.asr.corpus.augment import noisy
from thalweg.models.recipes.asr.corpus.data import human_recordings
from thalweg.models.recipes.asr.corpus.text import Sentences
from thalweg.models.recipes.asr.corpus.voices import choose, voices
from thalweg.models.recipes.asr.measure import speech_begins_s

RATE = 16_000
Floats = NDArray[np.float32]
Rng = np.random.Generator
PEOPLE = Path("/usr/share/pocketsphinx/test/data")
SYNTHETIC = 12
_BEFORE_S, _AFTER_S = 0.6, 0.9
_HUM = 3e-4  # of full scale: no room is silent


@dataclass(frozen=True, slots=True)
class Utterance:
    """[time] at 16 kHz with silence around it, what it says, and where in it the voice begins."""

    audio: Floats
    said: str
    begin_s: float


def people() -> list[Utterance]:
    """Debian's `pocketsphinx-testdata`: five hands of cards, five sentences of a book. Empty where it is not there."""
    if not PEOPLE.is_dir():
        return []
    return [_framed(each.audio, each.text) for each in human_recordings(PEOPLE)]


def synthetic(count: int = SYNTHETIC) -> list[Utterance]:
    """Sentences by voices of espeak-ng and flite that nothing here was trained on; the same ones every time."""
    if not any(voice.test for voice in voices()):
        return []
    rng = random.Random("bench wer")
    sentences = Sentences(None, None, seed=7, test=True)
    found = []
    for _ in range(count):
        text, voice = sentences.next(), choose(voices(), rng, test=True)
        found.append(_framed(voice.speak(text, rng), text))
    return found


def conditions() -> dict[str, Callable[[Floats, Rng], Floats]]:
    """How it arrives."""
    return {
        "clean": lambda audio, rng: audio,
        "10 dB": lambda audio, rng: noisy(audio, 10, rng),
        "5 dB": lambda audio, rng: noisy(audio, 5, rng),
        "telephone": telephone,
        "far": far,
    }


def heard(utterances: list[Utterance], condition: str) -> Iterator[Utterance]:
    """The utterances under a condition; the same every time."""
    change = conditions()[condition]
    for number, each in enumerate(utterances):
        rng = np.random.default_rng([number, sum(condition.encode())])
        yield Utterance(change(each.audio, rng).astype(np.float32), each.said, each.begin_s)


def telephone(audio: Floats, rng: Rng) -> Floats:
    """300 to 3,400 Hz and µ-law in 8 bits, as G.711 carries it at 8 kHz."""
    spectrum = np.fft.rfft(audio)
    hz = np.fft.rfftfreq(len(audio), 1 / RATE)
    narrow = np.fft.irfft(spectrum * ((hz >= 300) & (hz <= 3_400)), len(audio))
    loud = np.abs(narrow).max() or 1.0
    squeezed = np.sign(narrow) * np.log1p(255 * np.abs(narrow) / loud) / np.log(256)
    coded = np.round(squeezed * 127) / 127
    out: Floats = (np.sign(coded) * (256 ** np.abs(coded) - 1) / 255 * loud).astype(np.float32)
    return out


def far(audio: Floats, rng: Rng) -> Floats:
    """Four metres off in a room that takes 0.6 s to fall silent: as much reverberation as voice, and noise at 20 dB."""
    times = np.arange(round(0.6 * RATE)) / RATE
    echo = rng.standard_normal(len(times)) * 10 ** (-3 * times / 0.6)
    echo[: round(0.003 * RATE)] = 0
    echo /= np.sqrt((echo**2).sum())
    echo[0] = 1
    size = 1 << (len(audio) + len(echo)).bit_length()
    wet = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(echo, size), size)[: len(audio)]
    return noisy((0.5 * wet).astype(np.float32), 20, rng)


def _framed(audio: Floats, text: str) -> Utterance:
    rng = np.random.default_rng(len(audio))
    quiet = [(_HUM * rng.standard_normal(round(s * RATE))).astype(np.float32) for s in (_BEFORE_S, _AFTER_S)]
    return Utterance(np.concatenate([quiet[0], audio, quiet[1]]), text, _BEFORE_S + speech_begins_s(audio))
