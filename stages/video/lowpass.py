"""Favouring regions with an encoder that knows none: what is outside is blurred, and so costs fewer bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVELS = 4


def soften(pixels: NDArray[np.uint8], penalty: NDArray[np.int8], block: int, floor: int) -> NDArray[np.uint8]:
    """The picture, in each block as soft as its penalty 0…floor says: sharp at 0, a quarter of the detail at `floor`.

    Detail is removed by scaling down and up again, at most four strengths of it. Where the strength changes between
    blocks the two are blended, on the softer side, since a hard edge would cost the bits that were saved.
    """
    if not penalty.any() or floor <= 0:
        return pixels
    import cv2

    height, width = pixels.shape[:2]
    share = np.clip(penalty.astype(np.float32) / floor, 0, 1)
    wide = np.repeat(np.repeat(share, block, 0), block, 1)[:height, :width]
    near = np.ones((block // 2 + 1, block // 2 + 1), np.float32)
    mask = cv2.blur(cv2.erode(np.ascontiguousarray(wide), near), near.shape) * (LEVELS - 1)
    result = pixels.astype(np.float32)
    for level in range(1, LEVELS):
        factor = 1 + level
        small = cv2.resize(pixels, (max(1, width // factor), max(1, height // factor)), interpolation=cv2.INTER_AREA)
        soft = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        weight = np.clip(mask - (level - 1), 0, 1)
        weight = weight[..., None] if pixels.ndim == 3 else weight
        result += (soft - result) * weight
    return np.rint(result).astype(np.uint8)


def scaled(pixels: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """The picture at `scale` 0…1 of its size, averaged; at least 1×1."""
    if scale >= 1:
        return pixels
    import cv2

    height, width = pixels.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
