"""Whether this machine keeps up: what admission is decided by.

Two measures, each over the last few seconds. The loop's lateness is what makes audio stutter; processor time, that of
the processes it has started included, is what runs out first. Both react within a second. How soon people get an answer
is neither: `capacity.py` learns that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from thalweg.models.store.fitting import usable_cores
from thalweg.pipeline.observing.quantile import quantile

STEP_S = 0.05
WINDOW_S = 4.0
CHILDREN_S = 0.5


class LoadMeter:
    """`run` measures; `busy` says whether one conversation more would be too much.

    `late_s`: how late the loop may be; `used`: how much of the processors may be used, 0…1.
    """

    def __init__(self, late_s: float, used: float) -> None:
        self._limits = (late_s, used)
        self._cpus = usable_cores()
        self._late: deque[float] = deque(maxlen=round(WINDOW_S / STEP_S))
        self._used: deque[tuple[float, float]] = deque(maxlen=round(WINDOW_S / CHILDREN_S) + 1)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = time.monotonic() + STEP_S
            await asyncio.sleep(STEP_S)
            now = time.monotonic()
            self._late.append(max(0.0, now - due))
            if not self._used or now - self._used[-1][0] >= CHILDREN_S:
                self._used.append((now, time.process_time() + children_s()))

    @property
    def late_s(self) -> float:
        """How late the loop is, p95 over the window."""
        return quantile(self._late, 0.95) if self._late else 0.0

    @property
    def used(self) -> float:
        """Share of the processors that this process and its children used over the window, 0…1."""
        if len(self._used) < 2:
            return 0.0
        (start, used_start), (end, used_end) = self._used[0], self._used[-1]
        return max(0.0, used_end - used_start) / max(1e-6, end - start) / self._cpus

    @property
    def busy(self) -> bool:
        """Whether there is no room for another conversation."""
        late_s, used = self._limits
        return self.late_s > late_s or self.used > used


def children_s(process: int | str = "self") -> float:
    """Processor seconds of all processes that a process has started and that still run; 0 where there is no /proc."""
    ticks = 0
    for child in descendants(process):
        with contextlib.suppress(OSError):  # it may end meanwhile
            after_name = Path(f"/proc/{child}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            ticks += int(after_name[11]) + int(after_name[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def descendants(process: int | str = "self") -> Iterator[int]:
    """All processes that a process has started, and those that they have; none where there is no /proc."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text(encoding="utf-8").split():
                yield int(child)
                yield from descendants(int(child))
