"""Voices that say a word and tell when each phoneme began: espeak-ng through its library, flite as a program.

espeak-ng is GPL-3.0-or-later and flite is under a BSD-like licence; neither is linked into Thalweg or shipped with it,
and what they speak carries no licence of theirs. Variants of espeak-ng are one formant synthesizer in many disguises:
voices that were not trained on are new in pitch, formants, breathiness and speed, but not as new as people are.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import tempfile
import wave
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError

RATE = 16_000

_VARIANTS = {
    "train": "adam Alex Alicia Andrea Andy Annie antonio benjamin boris caleb david Denis Diogo ed Gene Gustave "
    "Henrique iven iven2 iven4 john Lee linda marcelo Marco max michel Mike Nguyen pablo paul pedro rob robert "
    "steph steph2 victor zac f1 f2 f4 m1 m2 m4 m5 m7 klatt klatt3 norbert travis",
    "val": "aunty belinda edward Michael Mario f5 m3 klatt4 sandro quincy",
    "test": "anika Edward2 Gene2 Jacky iven3 miguel shelby steph3 f3 m6 m8 klatt2 grandma grandpa",
}
_ACCENTS = ("gmw/en-US", "gmw/en-US", "gmw/en", "gmw/en-029", "gmw/en-GB-x-rp")
_FLITE = {"train": ("kal16", "slt"), "val": ("awb",), "test": ("rms",)}


class VoiceError(ModelError):
    """A synthesizer that is not there, or did not speak."""


@dataclass(frozen=True, slots=True)
class SynthesizerVoice:
    """Who speaks. `engine`: `espeak` or `flite`; `rate_wpm` words a minute, `pitch` 0…99, both for espeak."""

    engine: str
    name: str
    rate_wpm: int = 140
    pitch: int = 50


@dataclass(frozen=True, slots=True)
class Spoken:
    """A word as it was said: `samples` [time] float32 at 16 kHz, and each phoneme with its start in seconds."""

    samples: NDArray[np.float32]
    phonemes: tuple[tuple[str, float], ...]


def draw_voice(split: str, rng: np.random.Generator) -> SynthesizerVoice:
    """Some voice of `train`, `val` or `test`; no voice is in two of them. One in twelve is flite's."""
    if rng.random() < 1 / 12:
        return SynthesizerVoice("flite", str(rng.choice(_FLITE[split])))
    accent, variant = rng.choice(_ACCENTS), rng.choice(_VARIANTS[split].split())
    return SynthesizerVoice("espeak", f"{accent}+{variant}", int(rng.integers(105, 165)), int(rng.integers(25, 75)))


def speak(text: str, voice: SynthesizerVoice) -> Spoken:
    """Say a word. Deterministic. Raises VoiceError."""
    spoken = _flite(text, voice.name) if voice.engine == "flite" else _espeak(text, voice)
    if not len(spoken.samples) or not spoken.phonemes:
        raise VoiceError(f"{voice.engine} said nothing for {text!r} in the voice {voice.name!r}")
    return spoken


class _Identity(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Identity),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_SYNCHRONOUS, _PHONEME_EVENTS, _DO_NOT_EXIT = 2, 1, 1 << 15
_PHONEME, _LIST_END = 7, 0
_SET_RATE, _SET_PITCH = 1, 3


class _Espeak:
    """The library, which knows one voice and one utterance at a time."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libespeak-ng.so.1")
        except OSError:
            raise VoiceError("espeak-ng is not installed: apt-get install espeak-ng") from None
        self._pieces: list[NDArray[np.int16]] = []
        self._phonemes: list[tuple[str, int]] = []
        self._callback = _CALLBACK(self._heard)  # kept: the library holds no reference
        self.rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS | _DO_NOT_EXIT)
        if self.rate <= 0:
            raise VoiceError("espeak-ng found no voice data: apt-get install espeak-ng-data")
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, voice: SynthesizerVoice) -> tuple[NDArray[np.int16], list[tuple[str, int]]]:
        """Samples at `rate`, and each phoneme with the sample it starts at."""
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise VoiceError(f"espeak-ng has no voice {voice.name!r}")
        self._library.espeak_SetParameter(_SET_RATE, voice.rate_wpm, 0)
        self._library.espeak_SetParameter(_SET_PITCH, voice.pitch, 0)
        self._pieces, self._phonemes = [], []
        data = text.encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, 1, None, None)
        return np.concatenate([np.zeros(0, np.int16), *self._pieces]), self._phonemes

    def _heard(self, samples: Any, count: int, events: Any) -> int:  # Any: pointers of ctypes
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while events[i].type != _LIST_END:
            if events[i].type == _PHONEME:
                self._phonemes.append((events[i].id.string.decode(errors="replace"), events[i].sample))
            i += 1
        return 0


@cache
def _library() -> _Espeak:
    return _Espeak()


def _espeak(text: str, voice: SynthesizerVoice) -> Spoken:
    library = _library()
    samples, phonemes = library.speak(text, voice)
    named = [(name.rstrip("#'"), start / library.rate) for name, start in phonemes if name]
    return Spoken(resample((samples / 32768).astype(np.float32), library.rate, RATE), tuple(named))


def _flite(text: str, name: str) -> Spoken:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "word.wav"
        try:
            done = subprocess.run(
                ["flite", "-voice", name, "-t", text, "-psdur", "-o", str(path)],
                check=True, capture_output=True, text=True,
                encoding="utf-8",
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError) as error:
            raise VoiceError(f"flite cannot speak ({error}): apt-get install flite") from None
        with wave.open(str(path)) as heard:
            rate = heard.getframerate()
            samples = (np.frombuffer(heard.readframes(heard.getnframes()), np.int16) / 32768).astype(np.float32)
    phonemes, start = [], 0.0
    for phoneme, end in re.findall(r"(\S+):(\S+)", done.stdout):
        phonemes.append(("_" if phoneme == "pau" else phoneme, start))
        start = float(end)
    return Spoken(resample(samples, rate, RATE), tuple(phonemes))


def resample(samples: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    """`samples` at another rate, by cutting or padding its spectrum; the length is rounded to whole samples."""
    if rate == wanted or not len(samples):
        return samples
    length = round(len(samples) * wanted / rate)
    spectrum = np.fft.rfft(samples)
    kept = spectrum[: length // 2 + 1]
    padded = np.pad(kept, (0, max(0, length // 2 + 1 - len(kept))))
    return (np.fft.irfft(padded, length) * (length / len(samples))).astype(np.float32)
