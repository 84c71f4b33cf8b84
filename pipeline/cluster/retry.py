"""When a failed source is run again: with exponential backoff.

Theory of operation. The pause after a failure is `first_ns`, twice as long after each further one, up to `LONGEST_NS`.
A source that ran for `STEADY_NS` before it failed begins with `first_ns` again, as for a new failure. The number of
tries is unlimited: a camera may come back after a night.
"""

from __future__ import annotations

LONGEST_NS = 30_000_000_000
STEADY_NS = 60_000_000_000


class Retry:
    """Of one source. Times are ns of any one clock, given as arguments. `streak`: failures since it ran for long."""

    def __init__(self, first_ns: int) -> None:
        self._first_ns = first_ns
        self._next_ns = first_ns
        self.streak = 0

    def failed(self, began_ns: int, now_ns: int) -> int:
        """The pause in ns before the next try of a source that was run at `began_ns` and has failed now."""
        if now_ns - began_ns >= STEADY_NS:
            self._next_ns, self.streak = self._first_ns, 0
        self.streak += 1
        pause_ns = self._next_ns
        self._next_ns = min(2 * pause_ns, max(LONGEST_NS, self._first_ns))
        return pause_ns
