"""What happens to the sound on its way: tempo, the speaker's tract, a room, a channel, noise, its level.

All of it is done to log-mel features, [frame, mel] float32: half a millisecond for an utterance where the same things
done to samples take twenty, which on a processor is longer than to learn from it. What features do not show is left
out: pitch, and the rounding of a codec. `masked` is SpecAugment (arXiv 1904.08779). `noisy` works on samples, for
tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rng = np.random.Generator
_FLOOR = math.log(2.0**-24)  # what the front end gives for digital silence
_DB = math.log(10) / 10


def augmented(mel: Floats, rng: Rng) -> tuple[Floats, Callable[[int], int]]:
    """One way the same utterance might have reached a microphone, and where in it a frame of the original went."""
    tempo = rng.uniform(0.85, 1.18)
    mel = warped(mel, tempo, rng.uniform(0.9, 1.1))
    before, mel = silence_around(mel, rng)
    power = np.exp(mel)
    if rng.random() < 0.4:
        power = room(power, rng.uniform(0.1, 0.6), rng.uniform(0.02, 0.15))
    power *= channel(mel.shape[1], rng)
    if rng.random() < 0.7:
        power = with_noise(power, rng.uniform(3, 35), rng)
    heard = np.maximum(np.log(power) + np.float32(_DB * rng.uniform(-22, 8)), np.float32(_FLOOR))
    return heard, lambda frame: before + round(frame / tempo)


def warped(mel: Floats, tempo: float, tract: float) -> Floats:
    """Faster for a tempo, formants higher for a tract above one: between frames and bands one reads in between."""
    times = np.arange(0, len(mel) - 1, tempo, dtype=np.float32)
    bands = np.minimum(np.arange(mel.shape[1], dtype=np.float32) / np.float32(tract), mel.shape[1] - 1.001)
    frame, band = np.minimum(times.astype(np.int32), len(mel) - 2), bands.astype(np.int32)  # float32 rounds up, too
    across, along = (times - frame.astype(np.float32))[:, None], bands - band.astype(np.float32)
    rows = mel[frame] * (1 - across) + mel[frame + 1] * across
    out: Floats = rows[:, band] * (1 - along) + rows[:, band + 1] * along
    return out


def silence_around(mel: Floats, rng: Rng) -> tuple[int, Floats]:
    """Up to half a second before and after, as quiet as the quietest tenth; returns the frames that come before too."""
    quiet = mel[np.argsort(mel.mean(axis=1))[: max(1, len(mel) // 10)]]
    before, after = (quiet[rng.integers(0, len(quiet), int(rng.integers(0, 50)))] for _ in range(2))
    return len(before), np.concatenate([before, mel, after])


def room(power: Floats, decay_s: float, share: float) -> Floats:
    """Reverberation that dies away 60 dB in `decay_s`; a frame's own sound begins it with `share` of its power."""
    count = max(2, int(decay_s * 100))
    tail = (share * 10 ** (-6 * np.arange(count) / count)).astype(np.float32)
    tail[0] = 1
    size = 1 << (len(power) + count - 1).bit_length()
    spectrum = np.fft.rfft(power, size, axis=0) * np.fft.rfft(tail, size)[:, None]
    heard: Floats = np.maximum(np.fft.irfft(spectrum, size, axis=0)[: len(power)], 0).astype(np.float32)
    return heard + np.float32(1e-8)


def channel(bands: int, rng: Rng) -> Floats:
    """Gain of every band: a slope and a few hills of up to 6 dB; one in five is a telephone."""
    place = np.linspace(0, 1, bands)
    gain = rng.uniform(-6, 6) * (place - 0.5) + np.interp(place, np.linspace(0, 1, 6), rng.uniform(-4, 4, 6))
    if rng.random() < 0.2:
        low, high = int(rng.integers(0, 8)), int(rng.integers(bands * 11 // 16, bands))
        gain[:low] -= 30
        gain[high:] -= 40
    out: Floats = np.exp(_DB * gain).astype(np.float32)
    return out


def with_noise(power: Floats, snr_db: float, rng: Rng) -> Floats:
    """Noise between white and brown, with hills; every frame and band of it is drawn anew."""
    bands = power.shape[1]
    place = np.linspace(0, 1, bands)
    shape = np.exp(_DB * (-25 * rng.random() * place + np.interp(place, np.linspace(0, 1, 5), rng.uniform(-6, 6, 5))))
    noise = shape * rng.gamma(2.0, 0.5, power.shape)
    noise *= power.mean() / noise.mean() * 10 ** (-snr_db / 10)
    out: Floats = power + noise.astype(np.float32)
    return out


def masked(mel: Floats, rng: Rng, bands: int = 2, gaps: int = 3) -> Floats:
    """SpecAugment, in place: some mel bands and some stretches of time are overwritten with the mean."""
    mean = mel.mean()
    for _ in range(bands):
        width = int(rng.integers(0, 14))
        start = int(rng.integers(0, mel.shape[1] - width))
        mel[:, start : start + width] = mean
    for _ in range(gaps):
        length = int(rng.integers(0, max(2, len(mel) // 25)))
        start = int(rng.integers(0, max(1, len(mel) - length)))
        mel[start : start + length] = mean
    return mel


def noisy(audio: Floats, snr_db: float, rng: Rng) -> Floats:
    """[time] samples with noise whose power falls with frequency, from white to brown."""
    spectrum = np.fft.rfft(rng.standard_normal(len(audio)))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum, len(audio))
    power = float(np.mean(audio**2)) / (float(np.mean(noise**2)) + 1e-12) * 10 ** (-snr_db / 10)
    both: Floats = (audio + noise * np.sqrt(power)).astype(np.float32)
    return both
