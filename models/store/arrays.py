"""Reads untrusted arrays: an .npz file is a zip archive, and may unpack to anything."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FREE = 256 << 20
_MOST_UNPACKED = 64
"""How many times larger than the file its arrays may be, beyond `_FREE` bytes."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of an .npz file by its name; none is unpickled.

    Raises OSError where it cannot be had, and ValueError on everything else that is wrong with it.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(info.file_size for info in packed.infolist())
        if size > (most := _FREE + _MOST_UNPACKED * path.stat().st_size):
            raise ValueError(f"it unpacks to {size >> 20} MiB, expected at most {most >> 20}")
        with np.load(path, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except (OSError, ValueError):
        raise
    except Exception as error:  # zipfile, its packers and numpy's reader of heads have a dozen kinds of their own
        raise ValueError(f"{type(error).__name__}: {str(error)[:200]}") from None
