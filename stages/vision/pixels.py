"""Pixels of a frame in the order that networks and detectors take."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thalweg.pipeline.errors import PayloadError
from thalweg.pipeline.payload import VideoFrame


def as_rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    """[height, width, 3] RGB; gray is repeated, transparency dropped. Raises PayloadError on a layout unknown here."""
    pixels = frame.pixels
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, 2)
    if frame.layout in ("rgb24", "rgba"):
        return pixels[..., :3]
    if frame.layout in ("bgr24", "bgra"):
        return pixels[..., 2::-1]
    raise PayloadError(f"a frame with layout {frame.layout!r} and shape {pixels.shape}, expected rgb24, bgr24 or gray")
