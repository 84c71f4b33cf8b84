"""Keeping regions on what they were about while the camera moves: how far the picture has shifted since then."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

import numpy as np
from numpy.typing import NDArray

from thalweg.models.vision.detectors import Shift

_KEPT = 600


class Drift:
    """Where the picture stands, as the sum of its shifts, for each of the last 600 frames.

    Give it every frame that is seen; a frame with a time before the last one (a restarted clock) starts it anew.
    """

    def __init__(self) -> None:
        self._shift = Shift()
        self._known: deque[tuple[int, float, float]] = deque(maxlen=_KEPT)

    def see(self, pixels: NDArray[np.uint8], time_ns: int) -> tuple[float, float]:
        """Take a frame in, of any layout; gives where the picture stands now, shares of its width and height."""
        colours = (
            pixels
            if pixels.ndim == 3 and pixels.shape[2] >= 3
            else np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, 2)
        )
        dx, dy = self._shift.between(colours[..., :3])
        if self._known and time_ns <= self._known[-1][0]:
            self._known.clear()
        _, x, y = self._known[-1] if self._known else (0, 0.0, 0.0)
        self._known.append((time_ns, x + dx, y + dy))
        return x + dx, y + dy

    def at(self, time_ns: int) -> tuple[float, float]:
        """Where it stood at the last frame up to a time; at its first, for times before."""
        if not self._known:
            return 0.0, 0.0
        place = bisect_right([at_ns for at_ns, *_ in self._known], time_ns)
        _, x, y = self._known[max(0, place - 1)]
        return x, y
