"""Mono sound as WAV files of 16 bits."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray


def write_wav(out: Path | IO[bytes], samples: NDArray[np.float32], rate: int) -> None:
    """Write samples of -1 to 1 (n,), what is beyond cut off, at `rate` Hz. Raises OSError."""
    with wave.open(str(out) if isinstance(out, Path) else out, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
