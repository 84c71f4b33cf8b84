"""What happens to the sound on its way: tempo and pitch, the speaker's tract, a room, noise, a telephone.

Each takes and gives [time] float32 at 16 kHz and draws what it does from `rng`. `SpecAugment` (arXiv 1904.08779) works
on features, in training only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thalweg.models.recipes.asr.voices import RATE, resampled

Floats = NDArray[np.float32]
Rng = np.random.Generator


def augmented(audio: Floats, rng: Rng) -> Floats:
    """One way the same utterance might have reached a microphone."""
    audio = speed(audio, rng.uniform(0.88, 1.14))  # tempo, pitch and vocal tract together, as tape does
    if rng.random() < 0.5:
        audio = tract(audio, rng.uniform(0.9, 1.1))
    if rng.random() < 0.5:
        audio = room(audio, rng.uniform(0.05, 0.5), rng)
    if rng.random() < 0.3:
        audio = telephone(audio, rng)
    if rng.random() < 0.7:
        audio = noisy(audio, rng.uniform(3, 35), rng)
    audio = silence_around(audio, rng)
    return level(audio, rng.uniform(-38, -12))


def speed(audio: Floats, factor: float) -> Floats:
    """Faster and higher for a factor above one."""
    return resampled(audio, RATE * factor)


def tract(audio: Floats, factor: float) -> Floats:
    """Formants moved by `factor`, pitch left where it is: the envelope of each short spectrum is stretched."""
    size, hop = 512, 128
    window = np.hanning(size).astype(np.float32)
    padded = np.pad(audio, size)
    out, weight = np.zeros(len(padded), np.float32), np.full(len(padded), 1e-3, np.float32)
    bins = np.arange(size // 2 + 1)
    for at in range(0, len(padded) - size, hop):
        spectrum = np.fft.rfft(padded[at : at + size] * window)
        cepstrum = np.fft.irfft(np.log(np.abs(spectrum) + 1e-6))
        cepstrum[32:-31] = 0
        envelope = np.fft.rfft(cepstrum).real
        moved = np.interp(bins / factor, bins, envelope)
        out[at : at + size] += np.fft.irfft(spectrum * np.exp(moved - envelope)).astype(np.float32) * window
        weight[at : at + size] += window**2
    moved_audio: Floats = (out / weight)[size:-size]
    return moved_audio


def room(audio: Floats, decay_s: float, rng: Rng) -> Floats:
    """Reverberation: noise that dies away 60 dB in `decay_s`, after the direct sound."""
    count = int(decay_s * RATE)
    tail = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count) * rng.uniform(0.02, 0.12)
    tail[0] = 1
    return _filtered(audio, tail.astype(np.float32))[: len(audio)]


def noisy(audio: Floats, snr_db: float, rng: Rng) -> Floats:
    """Noise whose power falls with frequency, from white to brown."""
    spectrum = np.fft.rfft(rng.standard_normal(len(audio)))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum, len(audio))
    power = float(np.mean(audio**2)) / (float(np.mean(noise**2)) + 1e-12) * 10 ** (-snr_db / 10)
    both: Floats = (audio + noise * np.sqrt(power)).astype(np.float32)
    return both


def telephone(audio: Floats, rng: Rng) -> Floats:
    """Band limits and the eight bits of G.711 µ-law."""
    spectrum = np.fft.rfft(audio)
    hertz = np.fft.rfftfreq(len(audio), 1 / RATE)
    spectrum[(hertz < rng.uniform(50, 300)) | (hertz > rng.uniform(3_300, 7_000))] = 0
    narrow = np.fft.irfft(spectrum, len(audio))
    loudest = float(np.abs(narrow).max()) + 1e-9
    coded = np.sign(narrow) * np.log1p(255 * np.abs(narrow) / loudest) / np.log(256)
    coded = np.round(coded * 127) / 127
    heard: Floats = (np.sign(coded) * np.expm1(np.abs(coded) * np.log(256)) / 255 * loudest).astype(np.float32)
    return heard


def silence_around(audio: Floats, rng: Rng) -> Floats:
    """Up to half a second before and after; what lies there is as noisy as the rest."""
    before, after = (int(rng.uniform(0, 0.5) * RATE) for _ in range(2))
    floor = float(np.percentile(np.abs(audio), 5)) if len(audio) else 0.0
    pieces = (rng.standard_normal(before) * floor, audio, rng.standard_normal(after) * floor)
    return np.concatenate([piece.astype(np.float32) for piece in pieces])


def level(audio: Floats, rms_db: float) -> Floats:
    """At this level, clipped where it does not fit."""
    gain = 10 ** (rms_db / 20) / (np.sqrt(float(np.mean(audio**2))) + 1e-9)
    set_to: Floats = np.clip(audio * gain, -1, 1).astype(np.float32)
    return set_to


def masked(mel: Floats, rng: Rng, bands: int = 2, gaps: int = 4) -> Floats:
    """SpecAugment: some mel bands and some stretches of time are overwritten with the mean."""
    mel, mean = mel.copy(), float(mel.mean())
    for _ in range(bands):
        width = int(rng.integers(0, 20))
        start = int(rng.integers(0, mel.shape[1] - width))
        mel[:, start : start + width] = mean
    for _ in range(gaps):
        length = int(rng.integers(0, max(2, len(mel) // 20)))
        start = int(rng.integers(0, max(1, len(mel) - length)))
        mel[start : start + length] = mean
    return mel


def _filtered(audio: Floats, response: Floats) -> Floats:
    size = len(audio) + len(response) - 1
    out: Floats = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(response, size), size).astype(np.float32)
    return out
