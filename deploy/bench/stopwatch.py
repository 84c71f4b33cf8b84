"""How long something took, by the wall and by the processor."""

from __future__ import annotations

import time
from typing import NamedTuple


class Taken(NamedTuple):
    """Seconds by the clock on the wall, and of processor time of this thread: the same where nothing else runs."""

    wall_s: float
    cpu_s: float


class Stopwatch:
    """Starts when it is made."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = time.thread_time()

    def taken(self) -> Taken:
        """Since then."""
        return Taken(time.perf_counter() - self._wall, time.thread_time() - self._cpu)
