"""Capture times in the pipeline's clock, from RTP timestamps and arrival times alone.

A sender's timestamps tick evenly, arrivals jitter, and a packet can be late but never early. So the packet that was
least late lately shows how the two clocks lie to each other; everything else is measured against it. The window
slides, so that clocks which drift apart (50 ppm is 3 ms a minute) are followed, and a route that becomes longer is
believed after one window.

Between two streams of one sender, sender reports (RFC 3550 §6.4.1) say which timestamps of each were taken at the
same moment; `align` takes the offset of the stream that is measured better.
"""

from __future__ import annotations

from collections import deque


class Unwrap:
    """Numbers of `bits` bits that wrap, as numbers that do not. Steps of less than half the range either way."""

    def __init__(self, bits: int = 32) -> None:
        self._range = 1 << bits
        self._last: int | None = None

    def __call__(self, value: int) -> int:
        """The unwrapped number; the first one is itself."""
        if self._last is None:
            self._last = value
            return value
        step = (value - self._last) % self._range
        if step >= self._range // 2:
            step -= self._range
        found = self._last + step
        if step > 0:
            self._last = found
        return found


class CaptureClock:
    """Capture times of one stream. `rate`: ticks of its timestamps per second; `window_ns`: how far back it looks."""

    def __init__(self, rate: int, window_ns: int = 10_000_000_000) -> None:
        self.rate = rate
        self._window_ns = window_ns
        self._lowest: deque[tuple[int, int]] = deque()
        self._report: tuple[int, int] | None = None
        self._aligned_ns: int | None = None

    def capture_ns(self, timestamp: int, arrival_ns: int) -> int:
        """When the unit of (unwrapped) `timestamp` that arrived at `arrival_ns` was captured, transit included."""
        media_ns = timestamp * 1_000_000_000 // self.rate
        offset = arrival_ns - media_ns
        while self._lowest and self._lowest[-1][1] >= offset:
            self._lowest.pop()
        self._lowest.append((arrival_ns, offset))
        while self._lowest[0][0] < arrival_ns - self._window_ns:
            self._lowest.popleft()
        return media_ns + (self._lowest[0][1] if self._aligned_ns is None else self._aligned_ns)

    @property
    def offset_ns(self) -> int | None:
        """Pipeline clock minus media time, of the packet that was least late; None before the first."""
        return self._lowest[0][1] if self._lowest else None

    def sender_report(self, ntp: int, timestamp: int) -> None:
        """The sender says that (unwrapped) `timestamp` was taken at its own time `ntp`, 32.32 fixed point."""
        self._report = ((ntp * 1_000_000_000) >> 32, timestamp * 1_000_000_000 // self.rate)

    def align(self, other: CaptureClock) -> None:
        """Take capture times from `other`, a stream of the same sender, once both have had a sender report."""
        if self._report is None or other._report is None or other.offset_ns is None:
            return
        ours_ntp, ours_media = self._report
        other_ntp, other_media = other._report
        self._aligned_ns = other.offset_ns + (ours_ntp - ours_media) - (other_ntp - other_media)
