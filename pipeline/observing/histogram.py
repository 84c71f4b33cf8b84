"""Histograms of durations, in constant memory and without allocation on the packet path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

_SUB_BITS = 4
_SUB = 1 << _SUB_BITS


class PlainHistogram(TypedDict):
    """A histogram as plain values. `counts`: `[bucket, count]` of every bucket that holds anything, in order."""

    counts: list[list[int]]
    total_ns: int
    maximum_ns: int


class Histogram:
    """Durations in buckets that grow by a sixteenth: a quantile is at most 6.25 % above the true value.

    Values are nanoseconds, negative ones count as 0. The exact minimum is not kept; the maximum is.
    """

    __slots__ = ("_buckets", "count", "maximum_ns", "total_ns")

    def __init__(self) -> None:
        self._buckets = [0] * (64 * _SUB)
        self.count = 0
        self.total_ns = 0
        self.maximum_ns = 0

    def record(self, value_ns: int) -> None:
        """Count one duration."""
        if value_ns < _SUB:
            value_ns = max(value_ns, 0)
            index = value_ns
        else:
            shift = value_ns.bit_length() - _SUB_BITS - 1
            index = (shift << _SUB_BITS) + (value_ns >> shift)
        self._buckets[index] += 1
        self.count += 1
        self.total_ns += value_ns
        if value_ns > self.maximum_ns:
            self.maximum_ns = value_ns

    def quantile(self, share: float) -> int:
        """The upper edge of the bucket that holds the `share` quantile (0…1), ns; 0 if nothing was counted."""
        if not self.count:
            return 0
        wanted = max(1, -int(-share * self.count // 1))
        seen = 0
        for index, bucket in enumerate(self._buckets):
            seen += bucket
            if seen >= wanted:
                return min(_upper_edge(index), self.maximum_ns)
        return self.maximum_ns

    def add(self, other: Histogram) -> None:
        """Count everything that `other` has counted."""
        self._buckets = [mine + theirs for mine, theirs in zip(self._buckets, other._buckets, strict=True)]
        self.count += other.count
        self.total_ns += other.total_ns
        self.maximum_ns = max(self.maximum_ns, other.maximum_ns)

    def since(self, earlier: Histogram) -> Histogram:
        """The counts since `earlier`, a previous state of this histogram; all of them if it was reset since.

        The maximum covers the whole time.
        """
        if earlier.count > self.count:
            return self
        later = Histogram()
        later._buckets = [now - then for now, then in zip(self._buckets, earlier._buckets, strict=True)]
        later.count = self.count - earlier.count
        later.total_ns = self.total_ns - earlier.total_ns
        later.maximum_ns = self.maximum_ns
        return later

    def below(self, exponents: Sequence[int]) -> list[int]:
        """For each exponent, how many were below 2^exponent ns. Exact. `exponents` must rise, from at least 4."""
        found = []
        seen = at = 0
        for exponent in exponents:
            upto = (exponent - _SUB_BITS + 1) << _SUB_BITS
            seen += sum(self._buckets[at:upto])
            at = upto
            found.append(seen)
        return found

    def plain(self) -> PlainHistogram:
        """As plain values, to send; `from_plain` reads them."""
        counts = [[index, count] for index, count in enumerate(self._buckets) if count]
        return {"counts": counts, "total_ns": self.total_ns, "maximum_ns": self.maximum_ns}

    @classmethod
    def from_plain(cls, plain: PlainHistogram) -> Histogram:
        """What `plain` wrote."""
        histogram = cls()
        for index, count in plain["counts"]:
            histogram._buckets[index] = count
            histogram.count += count
        histogram.total_ns = plain["total_ns"]
        histogram.maximum_ns = plain["maximum_ns"]
        return histogram


def _upper_edge(index: int) -> int:
    if index < 2 * _SUB:
        return index
    shift = (index >> _SUB_BITS) - 1
    return ((index - (shift << _SUB_BITS) + 1) << shift) - 1
