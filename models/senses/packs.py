"""Where recorded samples lie: packs in one file, and folders of clips in LRW's layout."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.senses.lrw import LrwClips
from thalweg.models.senses.samples import SampleError, Samples, Track
from thalweg.models.store.arrays import read_arrays

_EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"


class Pack:
    """Samples in an .npz file: per modality [sample, tick, …], `labels`, and `about`, a JSON text of the tracks.

    Audio may be int16, which is read as −1…1. Raises SampleError.
    """

    def __init__(self, path: Path) -> None:
        try:
            held = read_arrays(path)
            about = json.loads(str(held["about"]))
            self.tracks = {m: Track(**track) for m, track in about["tracks"].items()}
            self.labels: tuple[str, ...] = tuple(str(label) for label in held["labels"])
            self._ticks = {m: held[m] for m in self.tracks}
            self.window_ns = max(self._ticks[m].shape[1] * track.tick_ns for m, track in self.tracks.items())
        except FileNotFoundError:
            raise SampleError(f"{path} does not exist, from {Path.cwd()}") from None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise SampleError(f"{path} is no pack of samples: {error}") from None

    def ticks(self, index: int, modality: str) -> NDArray[Any]:
        """See `Samples`."""
        ticks: NDArray[Any] = self._ticks[modality][index]
        return ticks.astype(np.float32) / 32768 if ticks.dtype == np.int16 else ticks


def write_pack(path: Path, tracks: dict[str, Track], labels: list[str], ticks: dict[str, NDArray[Any]]) -> None:
    """Write what `Pack` reads; float32 within −1…1 is kept as int16."""
    kept = {m: _smaller(values) for m, values in ticks.items()}
    about = json.dumps({"tracks": {m: {"tick_ns": t.tick_ns, "join": t.join} for m, t in tracks.items()}})
    np.savez_compressed(path, allow_pickle=False, about=np.array(about), labels=np.array(labels), **kept)


def open_samples(path: Path) -> Samples:
    """A pack where `path` is a file, clips in LRW's layout where it is a folder. Raises SampleError.

    A bare name that is nothing here may be one of the packs that come with Thalweg.
    """
    bundled = _EXAMPLES / path.name
    if path.name == str(path) and path.suffix == ".npz" and not path.exists() and bundled.exists():
        path = bundled
    if path.is_dir():
        clips: Samples = LrwClips(path)
        return clips
    return _pack(path, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(4)
def _pack(path: Path, _changed_ns: int) -> Pack:
    return Pack(path)


def _smaller(values: NDArray[Any]) -> NDArray[Any]:
    fits = values.dtype == np.float32 and float(abs(values).max()) <= 1
    return np.round(values * 32767).astype(np.int16) if fits else values
