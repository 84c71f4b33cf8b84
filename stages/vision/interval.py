"""Looking no more often than there is time for: an interval of capture time."""

from __future__ import annotations


class Interval:
    """At most once in `every_ns`. A time before the last one, of a restarted clock, is due at once."""

    def __init__(self, every_ns: int) -> None:
        self._every_ns = every_ns
        self._last_ns: int | None = None

    def due(self, time_ns: int) -> bool:
        """Whether it is time; then it begins anew."""
        if self._last_ns is not None and 0 <= time_ns - self._last_ns < self._every_ns:
            return False
        self._last_ns = time_ns
        return True

    def reset(self) -> None:
        """The next time is due."""
        self._last_ns = None
