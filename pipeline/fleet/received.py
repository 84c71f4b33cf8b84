"""Which numbers of a stream have been dealt with, so that what comes again is known: high-water marks.

Numbers of a stream rise from 0. They arrive newest first where they are live and oldest first where they have waited,
so what has been dealt with is all below a mark, and ranges above it. A number that the sender says is lost is dealt
with, too. The ranges are bounded: what would need one more is not taken, and has to be sent again later, when those
below have filled up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from enum import Enum

from thalweg.pipeline.errors import ThalwegError

MOST_RANGES = 512


class Arrival(Enum):
    """What a number that arrives is. FULL: it was not taken, and must not be acknowledged."""

    NEW = "new"
    KNOWN = "known"
    FULL = "full"


class Received:
    """One stream. `mark`: every number below has been dealt with. Raises ThalwegError on ranges out of order."""

    def __init__(self, mark: int = 0, above: Iterable[Sequence[int]] = (), *, most_ranges: int = MOST_RANGES) -> None:
        self.mark = mark
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._most = most_ranges
        last = mark
        for start, end in above:
            if not last < start < end:
                raise ThalwegError(f"numbers {start}…{end} stand after {last}: ranges must rise and not touch")
            self._starts.append(start)
            self._ends.append(end)
            last = end

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return number < self.mark or (at >= 0 and number < self._ends[at])

    def covers(self, start: int, end: int) -> bool:
        """Whether all numbers from `start` up to but not including `end` have been dealt with."""
        at = bisect_right(self._starts, max(start, self.mark)) - 1
        return end <= self.mark or (at >= 0 and end <= self._ends[at] and max(start, self.mark) in self)

    def missing(self, start: int, end: int) -> int:
        """How many numbers from `start` up to but not including `end` have not been dealt with."""
        start = max(start, self.mark)
        held = sum(max(0, min(end, b) - max(start, a)) for a, b in zip(self._starts, self._ends, strict=True))
        return max(0, end - start) - held

    def take(self, number: int) -> Arrival:
        """A number has arrived."""
        if number in self:
            return Arrival.KNOWN
        return Arrival.NEW if self.settle(number, number + 1) else Arrival.FULL

    def settle(self, start: int, end: int) -> bool:
        """Count `start` up to but not including `end` as dealt with; False where there is no room for the range."""
        start = max(start, self.mark)
        if end <= start:
            return True
        at = bisect_right(self._starts, start)
        if at and self._ends[at - 1] >= start:
            at -= 1
            start = self._starts[at]
        to = at
        while to < len(self._starts) and self._starts[to] <= end:
            end = max(end, self._ends[to])
            to += 1
        if start == self.mark:
            self.mark = end
            del self._starts[at:to], self._ends[at:to]
            return True
        if at == to and len(self._starts) >= self._most:
            return False
        self._starts[at:to], self._ends[at:to] = [start], [end]
        return True

    def plain(self) -> list[object]:
        """`[mark, [[start, end], …]]`; `from_plain` reads it."""
        return [self.mark, [list(pair) for pair in zip(self._starts, self._ends, strict=True)]]

    @classmethod
    def from_plain(cls, plain: Sequence[object]) -> Received:
        """What `plain` wrote. Raises ThalwegError on anything else."""
        match plain:
            case [int() as mark, [*above]] if mark >= 0:
                pairs = [pair for pair in above if isinstance(pair, list | tuple) and len(pair) == 2]
                if len(pairs) == len(above) <= MOST_RANGES and all(type(n) is int for pair in pairs for n in pair):
                    return cls(mark, pairs)
        raise ThalwegError("marks are `[number, [[number, number], …]]`, found something else")
