"""The source of time: everything that waits or measures takes a `Clock`, so that tests can control it."""

from __future__ import annotations

import time
from typing import Protocol

from thalweg.pipeline.errors import ThalwegError


class Clock(Protocol):
    """Monotonic time. Only differences mean anything, and only between readings of the same clock."""

    def now_ns(self) -> int:
        """The time now, ns; never less than what an earlier call returned."""
        ...


class SystemClock:
    """The machine's monotonic clock, the same for every process on one host."""

    now_ns = staticmethod(time.monotonic_ns)


class VirtualClock:
    """A clock for tests: time moves only by `advance_to`."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """The time that was last set."""
        return self._now_ns

    def advance_to(self, time_ns: int) -> None:
        """Move to `time_ns`. Raises ThalwegError if that lies in the past."""
        if time_ns < self._now_ns:
            raise ThalwegError(f"cannot move the clock from {self._now_ns} ns back to {time_ns} ns")
        self._now_ns = time_ns
