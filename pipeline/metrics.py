"""Counting how long things took, in constant memory and without allocating on the packet path."""

from __future__ import annotations

_SUB_BITS = 4
_SUB = 1 << _SUB_BITS


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
        """The upper edge of the bucket that holds the `share` quantile (0…1), ns; 0 where nothing was counted."""
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


def _upper_edge(index: int) -> int:
    if index < 2 * _SUB:
        return index
    shift = (index >> _SUB_BITS) - 1
    return ((index - (shift << _SUB_BITS) + 1) << shift) - 1
