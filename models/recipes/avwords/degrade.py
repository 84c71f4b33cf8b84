"""Making clips hard, each sense by itself: noise for the ear; blur, darkness, things in the way for the eye.

A difficulty is a number from 0 to 1 per modality. 0 is a quiet room and a good camera; at 1 the signal-to-noise
ratio is around −8 dB, the picture is blurred over two pixels, dim, noisy, and half of the mouth is often hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONDITIONS = {"clean": (0.1, 0.1), "noisy": (0.7, 0.55)}
"""Named difficulties: (audio, video)."""

_SNR_EASY_DB, _SNR_HARD_DB = 32.0, -8.0


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard each sense has it, 0…1."""

    audio: float
    video: float


def add_noise(samples: NDArray[np.float32], difficulty: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """`samples` [time] with noise of a random kind: white, pink, hum or a babble; at the SNR of `difficulty` ± 3 dB.

    The loudness is drawn too, by up to ±6 dB, so that a level says nothing about a word.
    """
    n = len(samples)
    snr_db = _SNR_EASY_DB + difficulty * (_SNR_HARD_DB - _SNR_EASY_DB) + rng.uniform(-3, 3)
    white = rng.standard_normal(n)
    kind = rng.integers(3)
    if kind == 0:
        noise = white
    else:
        spectrum = np.fft.rfft(white)
        frequency = np.maximum(np.fft.rfftfreq(n, 1 / 16_000), 40)
        tilt = frequency**-0.5 if kind == 1 else np.exp(-(((frequency - 600) / 900) ** 2)) + 0.05
        noise = np.fft.irfft(spectrum * tilt, n)
    loud = np.abs(samples) > 0.05 * np.abs(samples).max() if samples.any() else np.ones(n, bool)
    speech_power = float(np.mean(samples[loud] ** 2)) + 1e-9
    noise *= np.sqrt(speech_power / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    gain = 10 ** (rng.uniform(-6, 6) / 20)
    return np.clip((samples + noise) * gain, -1, 1).astype(np.float32)


def spoil_view(frames: NDArray[np.float32], difficulty: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """`frames` [time, height, width] 0…1 as a worse camera saw them, uint8."""
    _, height, width = frames.shape
    seen = _blur(frames, 0.3 + 1.7 * difficulty * rng.uniform(0.5, 1.0))
    slope = rng.uniform(-1, 1, 2) * (0.15 + 0.3 * difficulty)
    ys, xs = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j]
    light = rng.uniform(1 - 0.75 * difficulty, 1.1) * (1 + slope[0] * xs + slope[1] * ys)
    seen = seen * light
    if rng.random() < 0.75 * difficulty:
        seen = _hide(seen, difficulty, rng)
    noisy = seen + rng.normal(0, 0.01 + 0.09 * difficulty, frames.shape)
    if rng.random() < 0.6 * difficulty:
        noisy = _freeze(noisy, difficulty, rng)
    return (np.clip(noisy, 0, 1) * 255).astype(np.uint8)


def _blur(frames: NDArray[np.float32], sigma: float) -> NDArray[np.float64]:
    reach = np.arange(-4, 5)
    kernel = np.exp(-0.5 * (reach / sigma) ** 2)
    kernel /= kernel.sum()
    blurred = frames.astype(np.float64)
    for axis in (1, 2):
        padded = np.pad(blurred, [(4, 4) if a == axis else (0, 0) for a in range(3)], mode="edge")
        length = blurred.shape[axis]
        blurred = sum(weight * np.take(padded, np.arange(i, i + length), axis=axis) for i, weight in enumerate(kernel))
    return blurred


def _hide(frames: NDArray[np.float64], difficulty: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A hand or a microphone comes into the picture for a while."""
    n, height, width = frames.shape
    size = (np.array([height, width]) * rng.uniform(0.25, 0.35 + 0.3 * difficulty, 2)).astype(int)
    top, left = rng.integers(4, height - size[0]), rng.integers(2, width - size[1])
    start = int(rng.integers(0, n))
    stop = start + int(n * rng.uniform(0.3, 0.4 + 0.6 * difficulty))
    hidden = frames.copy()
    hidden[start:stop, top : top + size[0], left : left + size[1]] = rng.uniform(0.1, 0.8)
    return hidden


def _freeze(frames: NDArray[np.float64], difficulty: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Some frames repeat the one before: the camera could not keep up."""
    index = np.arange(len(frames))
    for i in range(1, len(frames)):
        if rng.random() < 0.4 * difficulty:
            index[i] = index[i - 1]
    return frames[index]
