"""Who says it: every speech engine that is installed, in many voices. Some voices are for testing only.

Engines are called as programs: espeak-ng and its variants (GPL-3.0), flite (BSD-like), festival (BSD-like), and Piper
voices (each with its own licence; those of the model store are CC0). What they speak is ours to use; none of them is
shipped.

All but espeak-ng have few voices. For training, each of their sentences is said by a simulated larger or smaller
speaker: spoken slower or faster and played back the other way, which moves pitch and formants together, as between man
and child.
"""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
Floats = NDArray[np.float32]
_ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-us-nyc", "en-029", "en-gb-x-gbcwmd")
_VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "klatt", "klatt3", "Storm")
_TEST_VARIANTS = ("m4", "f4", "klatt3")
_FLITE = ("awb", "kal", "kal16", "rms", "slt")
_TEST_FLITE = ("rms",)
_SIZES = (0.87, 1.25)
"""How many times as fast a voice is played back."""
_FESTIVAL = Path("/usr/share/festival/voices")


@dataclass(frozen=True, slots=True)
class TrainingVoice:
    """One voice. `test`: never trained on."""

    name: str
    test: bool
    speak: Callable[[str, random.Random], Floats]


def voices(piper: list[Path] | None = None) -> list[TrainingVoice]:
    """All that this machine can speak with; Piper voices are given by their .onnx."""
    found = []
    if shutil.which("espeak-ng"):
        found += [
            TrainingVoice(
                f"espeak {accent}+{variant}", variant in _TEST_VARIANTS, partial(_espeak, f"{accent}+{variant}")
            )
            for accent in _ACCENTS
            for variant in _VARIANTS
        ]
    if shutil.which("flite"):
        for name in _FLITE:
            test = name in _TEST_FLITE
            found.append(TrainingVoice(f"flite {name}", test, partial(_flite, name, test)))
    if shutil.which("text2wave"):
        installed = sorted(folder.name for folder in _FESTIVAL.glob("*/*") if folder.is_dir())
        found += [TrainingVoice(f"festival {name}", False, partial(_festival, name)) for name in installed]
    for model in piper or []:
        found.append(TrainingVoice(f"piper {model.stem}", False, _Piper(model)))
    return found


def choose(all_voices: list[TrainingVoice], rng: random.Random, test: bool) -> TrainingVoice:
    """A voice of the split: first the engine, then the voice, so that espeak's many do not drown the others."""
    split = [voice for voice in all_voices if voice.test == test]
    if not split:
        kind = "for testing (espeak-ng and flite have some)" if test else "to train on"
        raise RuntimeError(f"no voice {kind} is installed: apt-get install espeak-ng flite festival")
    engines = sorted({voice.name.split()[0] for voice in split})
    engine = rng.choice(engines)
    return rng.choice([voice for voice in split if voice.name.split()[0] == engine])


def _espeak(name: str, text: str, rng: random.Random) -> Floats:
    pace = ["-s", str(rng.randint(120, 210)), "-p", str(rng.randint(25, 75)), "-g", str(rng.randint(0, 3))]
    options = ["-v", name, *pace]
    return samples_of(subprocess.run(["espeak-ng", *options, "--stdout", text], capture_output=True, check=True).stdout)


def _flite(name: str, test: bool, text: str, rng: random.Random) -> Floats:
    size = 1.0 if test else rng.uniform(*_SIZES)
    stretch = f"duration_stretch={size * rng.uniform(0.8, 1.3):.2f}"
    with tempfile.NamedTemporaryFile(suffix=".wav") as out:
        subprocess.run(["flite", "-voice", name, "--setf", stretch, "-t", text, "-o", out.name], check=True)
        return samples_of(Path(out.name).read_bytes(), size)


def _festival(name: str, text: str, rng: random.Random) -> Floats:
    size = 1.0 if name.endswith("_hts") else rng.uniform(*_SIZES)  # those know one pace only
    setting = f"(begin (voice_{name}) (Parameter.set 'Duration_Stretch {size * rng.uniform(0.8, 1.3):.2f}))"
    with tempfile.NamedTemporaryFile(suffix=".wav") as out:
        subprocess.run(["text2wave", "-eval", setting, "-o", out.name], input=text.encode(), check=True)
        return samples_of(Path(out.name).read_bytes(), size)


class _Piper:
    def __init__(self, model: Path) -> None:
        self._model = model
        self._voice: object = None

    def __call__(self, text: str, rng: random.Random) -> Floats:
        from thalweg.models.speech.piper import PiperVoice

        if self._voice is None:
            self._voice = PiperVoice(self._model, Path(f"{self._model}.json"))
        assert isinstance(self._voice, PiperVoice)
        size = rng.uniform(*_SIZES)
        spoken = self._voice.speak(
            text,
            length_scale=size * rng.uniform(0.8, 1.25),
            noise_scale=rng.uniform(0.4, 0.9),
            noise_w_scale=rng.uniform(0.5, 1.0),
        )
        return resampled(spoken, self._voice.rate * size)


def samples_of(content: bytes, size: float = 1.0) -> Floats:
    with wave.open(io.BytesIO(content)) as file:
        frames = file.readframes(file.getnframes())  # espeak-ng states no length when it writes to a pipe
        samples = np.frombuffer(frames[: len(frames) // 2 * 2], "<i2").astype(np.float32)
        return resampled(samples / np.float32(32768), file.getframerate() * size)


def resampled(samples: Floats, rate: float) -> Floats:
    """At 16 kHz: a Fourier transform cut off or filled up, exact for a whole utterance."""
    count = round(len(samples) * RATE / rate)
    if count == len(samples) or not count:
        return samples.astype(np.float32)
    padded = np.pad(samples, (0, int(2 ** np.ceil(np.log2(max(2, len(samples)))) - len(samples))))
    spectrum = np.fft.rfft(padded)
    size = round(len(padded) * RATE / rate)
    kept = np.zeros(size // 2 + 1, complex)
    bins = min(len(kept), len(spectrum))
    kept[:bins] = spectrum[:bins]
    out: Floats = (np.fft.irfft(kept, size)[:count] * (size / len(padded))).astype(np.float32)
    return out
