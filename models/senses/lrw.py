"""Clips in the layout of LRW (Lip Reading in the Wild): `ROOT/WORD/{train,val,test}/WORD_00001.mp4`.

The data set itself must be asked for at the BBC and Oxford and is not part of Thalweg; a folder of one's own clips in
the same layout does as well. A clip is cut or padded to its window around its middle, as LRW's are around their word:
audio mono at 16 kHz, video grey at 25 fps, the mouth region scaled down to 32 × 32.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.pyav import bounded, closed
from thalweg.models.senses.samples import SampleError, Track

RATE, FPS, SIZE = 16_000, 25, 32
MOUTH = (0.35, 0.95, 0.25, 0.75)
"""Top, bottom, left, right of the mouth in LRW's 256 × 256 face crops, as shares of the picture."""


class LrwClips:
    """A folder in LRW's layout. Memory holds the clip in hand. Raises SampleError on a folder without clips."""

    def __init__(self, root: Path, split: str = "test", window_ms: int = 960, mouth: tuple[float, ...] = MOUTH) -> None:
        self._paths = sorted(path for path in root.glob(f"*/{split}/*") if path.suffix in (".mp4", ".avi", ".mkv"))
        if not self._paths:
            raise SampleError(f"{root} has no clips: expected {root}/WORD/{split}/WORD_00001.mp4")
        self.tracks = {"audio": Track(20_000_000, "concatenate"), "video": Track(1_000_000_000 // FPS, "pick")}
        self.labels: tuple[str, ...] = tuple(path.parent.parent.name for path in self._paths)
        self._frames = window_ms * FPS // 1000
        self.window_ns = window_ms * 1_000_000
        self._samples = window_ms * RATE // 1000
        self._mouth = mouth
        self._read = lru_cache(4)(self._decode)

    def ticks(self, index: int, modality: str) -> NDArray[Any]:
        """Audio [tick, 320] float32, or video [frame, 32, 32] uint8. Raises SampleError on a clip that is damaged."""
        audio, video = self._read(self._paths[index])
        return audio if modality == "audio" else video

    def _decode(self, path: Path) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        try:
            import av
        except ImportError:
            raise SampleError("clips need PyAV: pip install 'thalweg[audio]'") from None
        sound: list[NDArray[np.float32]] = []
        frames: list[NDArray[np.uint8]] = []
        top, bottom, left, right = self._mouth
        try:
            with path.open("rb") as file, av.open(file, "r", **closed()) as container:
                bounded(container)
                resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
                for frame in container.decode(*container.streams.audio[:1], *container.streams.video[:1]):
                    if isinstance(frame, av.AudioFrame):
                        sound += [f.to_ndarray()[0] for f in resampler.resample(frame)]
                    elif isinstance(frame, av.VideoFrame):
                        grey = np.asarray(frame.to_ndarray(format="gray"), np.uint8)
                        h, w = grey.shape
                        frames.append(
                            shrink(grey[int(top * h) : int(bottom * h), int(left * w) : int(right * w)], SIZE)
                        )
                sound += [f.to_ndarray()[0] for f in resampler.resample(None)]
        except (av.FFmpegError, OSError, ValueError, IndexError) as error:
            raise SampleError(f"{path} cannot be read: {error}") from None
        if not frames or not sound:
            raise SampleError(f"{path} has {len(frames)} frames and {len(sound)} pieces of audio, expected both")
        audio = _window(np.concatenate(sound), self._samples).reshape(-1, RATE // 50)
        return audio.astype(np.float32), _window(np.stack(frames), self._frames)


def _window(values: NDArray[Any], length: int) -> NDArray[Any]:
    """The middle `length` of `values`; the ends are repeated where there is too little."""
    missing = length - len(values)
    if missing > 0:
        pad = [(missing // 2, missing - missing // 2)] + [(0, 0)] * (values.ndim - 1)
        return np.pad(values, pad, mode="edge" if values.ndim > 1 else "constant")
    start = -missing // 2
    middle: NDArray[Any] = values[start : start + length]
    return middle


def shrink(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """[height, width] → [size, size], each new pixel the mean of those it covers."""
    rows = np.linspace(0, picture.shape[0], size + 1).astype(int)
    columns = np.linspace(0, picture.shape[1], size + 1).astype(int)
    sums = np.add.reduceat(np.add.reduceat(picture.astype(np.float64), rows[:-1], axis=0), columns[:-1], axis=1)
    counts = np.maximum(1, np.diff(rows))[:, None] * np.maximum(1, np.diff(columns))[None]
    small: NDArray[np.uint8] = (sums / counts).clip(0, 255).astype(np.uint8)
    return small
