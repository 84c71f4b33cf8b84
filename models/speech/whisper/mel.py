"""The features that Whisper takes: a log-mel spectrogram, equal to that of its authors' code.

400-point Hann windows every 10 ms, power, mel filters as Slaney's Auditory Toolbox has them, log10 with a floor 8
below the loudest, scaled to about −1…1.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

RATE = 16_000
HOP = 160
FRAMES_PER_S = RATE // HOP
_SIZE = 400
_FLOOR = 1e-10
_RANGE = 8.0
_LINEAR_HZ, _KNEE_HZ, _KNEE_MEL = 200 / 3, 1000.0, 15.0  # 66.7 Hz a mel up to 1000 Hz = mel 15,
_STEP = np.log(6.4) / 27  # logarithmic beyond


def log_mel(samples: Floats, frames: int, bins: int = 80) -> Floats:
    """[bins, frames] of `samples` [time] at 16 kHz, followed by silence or cut off to fill `frames` hops of 10 ms."""
    held = samples[: frames * HOP]
    audible = min(frames, (len(held) + _SIZE // 2) // HOP + 1)  # behind that every window is silent
    padded = np.zeros(audible * HOP + _SIZE, np.float32)
    padded[_SIZE // 2 : _SIZE // 2 + len(held)] = held
    padded[: _SIZE // 2] = padded[_SIZE // 2 + 1 : _SIZE + 1][::-1]
    if audible == frames:
        end = frames * HOP + _SIZE // 2
        padded[end:] = padded[end - _SIZE // 2 - 1 : end - 1][::-1]
    windows = np.lib.stride_tricks.sliding_window_view(padded, _SIZE)[: audible * HOP : HOP]
    power = np.abs(np.fft.rfft(windows * _window(), axis=1)) ** 2
    log = np.full((frames, bins), np.log10(_FLOOR), np.float32)
    log[:audible] = np.log10(np.maximum(power.astype(np.float32) @ mel_filters(bins).T, _FLOOR))
    scaled = (np.maximum(log, log.max(initial=np.float32(-10)) - _RANGE) + 4) / 4
    return np.ascontiguousarray(scaled.T, dtype=np.float32)


@lru_cache
def _window() -> Floats:
    window: Floats = np.hanning(_SIZE + 1)[:-1].astype(np.float32)
    return window


@lru_cache
def mel_filters(bins: int) -> Floats:
    """[bins, 201] triangles over the frequencies of a 400-point transform, each of the same area."""
    edges = _hz(np.linspace(0, _mel(RATE / 2), bins + 2))
    ramps = edges[:, None] - np.linspace(0, RATE / 2, _SIZE // 2 + 1)
    widths = np.diff(edges)
    rising, falling = -ramps[:-2] / widths[:-1, None], ramps[2:] / widths[1:, None]
    filters: Floats = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return filters * (2 / (edges[2:] - edges[:-2])).astype(np.float32)[:, None]


def _mel(hz: float) -> float:
    return hz / _LINEAR_HZ if hz < _KNEE_HZ else float(_KNEE_MEL + np.log(hz / _KNEE_HZ) / _STEP)


def _hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < _KNEE_MEL, mel * _LINEAR_HZ, _KNEE_HZ * np.exp(_STEP * (mel - _KNEE_MEL)))
