"""Log-mel features, computed while the audio arrives.

The same numbers as NeMo's `AudioToMelSpectrogramPreprocessor` (`nemo/collections/asr/parts/preprocessing/features.py`)
in evaluation: pre-emphasis, a window centred on each hop with zeros before and after the audio, power spectrum,
triangular mel filters (Slaney), logarithm with a guard. Frame `t` is centred on sample `t * hop` and needs the
half window after it, so a frame comes out as soon as that half window is there; at the end zeros stand in for it.
Audio of `n` samples has `n // hop` frames.

Frames are computed in blocks of a fixed height. A matrix product may round differently for another number of rows;
so what a frame holds does not depend, in a single bit, on how the audio was cut into pieces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError

Samples = NDArray[np.float32]
_BLOCK = 8
_PER_FEATURE_GUARD = 1e-5  # NeMo adds it to the standard deviation
_WINDOWS = {"hann": np.hanning, "hamming": np.hamming, "blackman": np.blackman, "bartlett": np.bartlett}


@dataclass(frozen=True, slots=True, kw_only=True)
class MelConfig:
    """What the features are made of; names and defaults are NeMo's. `normalize`: "NA" or "per_feature".

    Per-feature normalisation takes mean and deviation over the whole utterance, which no stream has: `MelStream`
    refuses it, `log_mel` does it.
    """

    sample_rate: int = 16_000
    window_samples: int = 400
    hop_samples: int = 160
    n_fft: int = 512
    n_mels: int = 80
    window: str = "hann"
    preemphasis: float = 0.97
    low_hz: float = 0.0
    high_hz: float | None = None
    log_guard: float = 2.0**-24
    log_guard_clamps: bool = False
    mag_power: float = 2.0
    normalize: str = "NA"


class MelStream:
    """Turns samples into frames as they come; one instance per stream."""

    def __init__(self, config: MelConfig, filters: NDArray[np.float32] | None = None) -> None:
        """`filters`: [mel, bin] in place of those made from the configuration. Raises ModelError."""
        if config.normalize not in ("NA", ""):
            raise ModelError(f"mel features normalised {config.normalize!r} need the whole utterance: not streaming")
        self._maker = _FrameMaker(config, filters)
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Forget what was heard."""
        self._held = np.zeros(self.config.n_fft // 2, np.float32)  # begins n_fft // 2 before the next frame's centre
        self._last = np.float32(0)
        self.samples = 0
        self.frames = 0

    def feed(self, samples: Samples) -> Samples:
        """Take [time] float32; returns the frames that are now complete, [frame, mel] float32.

        Raises ModelError, and takes nothing, where a sample is not a finite number.
        """
        if len(samples) == 0:
            return self._maker.empty()
        if not np.isfinite(samples).all():
            raise ModelError(f"{int((~np.isfinite(samples)).sum())} of {len(samples)} audio samples are not numbers")
        config = self.config
        previous = np.concatenate([[self._last], samples[:-1]])
        emphasised = samples - np.float32(config.preemphasis) * previous
        self._held = np.concatenate([self._held, emphasised.astype(np.float32)])
        self._last = np.float32(samples[-1])
        self.samples += len(samples)
        return self._take((self.samples - config.window_samples // 2) // config.hop_samples + 1)

    def finish(self) -> Samples:
        """The frames that were waiting for audio after them; zeros stand in for it."""
        self._held = np.concatenate([self._held, np.zeros(self.config.n_fft, np.float32)])
        return self._take(self.samples // self.config.hop_samples)

    def _take(self, frames: int) -> Samples:
        """All frames up to number `frames` that were not taken yet."""
        wanted = max(0, min(frames, self.samples // self.config.hop_samples) - self.frames)
        if not wanted:
            return self._maker.empty()
        hop, n_fft = self.config.hop_samples, self.config.n_fft
        short = (wanted - 1) * hop + n_fft - len(self._held)
        held = np.concatenate([self._held, np.zeros(max(0, short), np.float32)])  # under the window's own zeros
        features = self._maker.frames(held, wanted)
        self._held = self._held[wanted * hop :]
        self.frames += wanted
        return features

    def snapshot(self) -> dict[str, Any]:
        """The state between two calls, as a tree of arrays and plain values."""
        return {"held": self._held.copy(), "last": float(self._last), "samples": self.samples, "frames": self.frames}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._held = np.array(state["held"], np.float32)
        self._last = np.float32(state["last"])
        self.samples, self.frames = state["samples"], state["frames"]


def log_mel(samples: Samples, config: MelConfig, filters: NDArray[np.float32] | None = None) -> Samples:
    """Features of a whole utterance, [frame, mel] float32, normalised as the configuration says."""
    stream = MelStream(replace(config, normalize="NA"), filters)
    features = np.concatenate([stream.feed(samples), stream.finish()])
    if config.normalize in ("NA", ""):
        return features
    if config.normalize != "per_feature":
        raise ModelError(f"mel normalisation {config.normalize!r} is unknown, expected 'NA' or 'per_feature'")
    deviation = features.std(axis=0, ddof=1) if len(features) > 1 else np.zeros(config.n_mels, np.float32)
    normalised: Samples = (features - features.mean(axis=0)) / (deviation + np.float32(_PER_FEATURE_GUARD))
    return normalised


def mel_filters(config: MelConfig) -> NDArray[np.float32]:
    """Triangular filters of equal area, [mel, bin]: Slaney's scale, linear to 1 kHz and logarithmic above."""
    high = config.high_hz or config.sample_rate / 2
    edges = _hertz(np.linspace(_mel(config.low_hz), _mel(high), config.n_mels + 2))
    bins = np.linspace(0, config.sample_rate / 2, config.n_fft // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    filters: NDArray[np.float32] = (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)
    return filters


class _FrameMaker:
    def __init__(self, config: MelConfig, filters: NDArray[np.float32] | None) -> None:
        if config.window not in _WINDOWS:
            raise ModelError(f"window {config.window!r} is unknown, expected one of {', '.join(_WINDOWS)}")
        self._config = config
        before = (config.n_fft - config.window_samples) // 2
        after = config.n_fft - config.window_samples - before
        self._window = np.pad(_WINDOWS[config.window](config.window_samples), (before, after)).astype(np.float32)
        self._filters = np.ascontiguousarray((mel_filters(config) if filters is None else filters).T)  # [bin, mel]
        if self._filters.shape != (config.n_fft // 2 + 1, config.n_mels):
            raise ModelError(f"mel filters have shape {self._filters.T.shape}, not those of {config}")

    def empty(self) -> Samples:
        return np.zeros((0, self._config.n_mels), np.float32)

    def frames(self, held: Samples, wanted: int) -> Samples:
        """The first `wanted` frames of `held`, whose first sample is n_fft // 2 before the first frame's centre."""
        windows = np.lib.stride_tricks.sliding_window_view(held, self._config.n_fft)[:: self._config.hop_samples]
        features = np.empty((wanted, self._config.n_mels), np.float32)
        block = np.zeros((_BLOCK, self._config.n_fft), np.float32)
        for start in range(0, wanted, _BLOCK):
            count = min(_BLOCK, wanted - start)
            np.multiply(windows[start : start + count], self._window, out=block[:count])
            block[count:] = 0
            features[start : start + count] = self._log_mel(block)[:count]
        return features

    def _log_mel(self, windowed: Samples) -> Samples:
        spectrum = np.fft.rfft(windowed)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        if self._config.mag_power != 2.0:
            power = power ** np.float32(self._config.mag_power / 2)
        mel = power @ self._filters
        guard = np.float32(self._config.log_guard)
        logarithm: Samples = np.log(np.maximum(mel, guard) if self._config.log_guard_clamps else mel + guard)
        return logarithm


_LINEAR_HZ = 200 / 3
_KNEE_HZ = 1000.0
_LOG_STEP = np.log(6.4) / 27


def _mel(hertz: float) -> float:
    if hertz < _KNEE_HZ:
        return hertz / _LINEAR_HZ
    return float(_KNEE_HZ / _LINEAR_HZ + np.log(hertz / _KNEE_HZ) / _LOG_STEP)


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    knee = _KNEE_HZ / _LINEAR_HZ
    return np.where(mel < knee, mel * _LINEAR_HZ, _KNEE_HZ * np.exp(_LOG_STEP * (mel - knee)))
