"""How much the network takes: a ceiling in bit/s from what the receiver reports about each packet.

Theory of operation, after Google congestion control (draft-ietf-rmcat-gcc-02), in three parts of which the lowest wins:

    delay   the queueing delay's trend over the last reports (least squares on the smoothed one-way delay) is compared
            to a threshold that adapts to the path's own jitter (§5.4):
            above for two reports → OVERUSE: ceiling = 0.85 × what arrives; then held until the queue is gone
            below its negative    → UNDERUSE: hold, a queue is draining
            between               → NORMAL: rise, by 8 % a second far from the last overuse, by about a packet
                                    per response time near it
    loss    above 10 % of a second's packets: × (1 − ½ loss); below 2 %: free to rise; between: hold (§6)
    REMB    what the receiver says it can take, if it says so

Besides, it does not rise beyond 1.5 × what arrives, plus a little: a sender that is limited by itself learns nothing
about the network, and what it had learnt stays. Loss that comes with no delay is the radio's, and below 10 % it costs
nothing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Report:
    """One packet's fate: when it was sent, when it arrived (None: it did not), its size in bytes.

    The two clocks need not agree: only differences between arrivals and between departures are used.
    """

    sent_ns: int
    arrived_ns: int | None
    size: int


class Usage(Enum):
    """What the delay says; see the table above."""

    NORMAL = "normal"
    OVERUSE = "overuse"
    UNDERUSE = "underuse"


class CongestionEstimate:
    """The ceiling of one path. Tell it every batch of reports, ask `ceiling_bps`.

    `start_bps`: believed until the first reports. Time that goes backwards counts as none passed.
    """

    def __init__(
        self, start_bps: int = 300_000, *, lowest_bps: int = 30_000, highest_bps: int = 20_000_000, window: int = 12
    ) -> None:
        self._delay_bps = float(start_bps)
        self._loss_bps = float(highest_bps)
        self._remb_bps: int | None = None
        self._lowest_bps = lowest_bps
        self._highest_bps = highest_bps
        self.usage = Usage.NORMAL
        self._threshold_ms = 12.5
        self._smoothed_ms = 0.0
        self._base_ms: float | None = None
        self._points: deque[tuple[float, float]] = deque(maxlen=window)
        self._over = 0
        self._last_ns: int | None = None
        self._arrivals: deque[tuple[int, int]] = deque()
        self._fates: deque[tuple[int, bool]] = deque()
        self._near_bps: float | None = None

    @property
    def ceiling_bps(self) -> int:
        """The most that may be sent now."""
        ceiling = min(self._delay_bps, self._loss_bps)
        if self._remb_bps is not None:
            ceiling = min(ceiling, self._remb_bps)
        return int(max(self._lowest_bps, min(self._highest_bps, ceiling)))

    @property
    def loss(self) -> float:
        """Share 0…1 of the last second's packets that were lost."""
        return sum(lost for _, lost in self._fates) / len(self._fates) if self._fates else 0.0

    @property
    def queue_ms(self) -> float:
        """Delay above the least that was ever seen, smoothed."""
        return max(0.0, self._smoothed_ms)

    def remb(self, bitrate_bps: int | None) -> None:
        """What the receiver says it can take; None takes it back."""
        self._remb_bps = bitrate_bps

    def update(self, now_ns: int, reports: Iterable[Report]) -> None:
        """Take in a batch of reports, some 50…200 ms worth. An empty one says that nothing was heard: hold."""
        passed_s = 0.0 if self._last_ns is None else max(0.0, min(1.0, (now_ns - self._last_ns) / _S))
        self._last_ns = now_ns
        batch = sorted((r for r in reports), key=lambda report: report.sent_ns)
        if not batch:
            return
        for report in batch:
            self._fates.append((now_ns, report.arrived_ns is None))
            if report.arrived_ns is not None:
                self._arrivals.append((report.arrived_ns, report.size))
        while self._fates and now_ns - self._fates[0][0] > _S:
            self._fates.popleft()
        while self._arrivals and self._arrivals[-1][0] - self._arrivals[0][0] > _S:
            self._arrivals.popleft()
        arrived = [report for report in batch if report.arrived_ns is not None]
        if arrived:
            self._judge(now_ns, arrived, passed_s)
        self._follow_delay(passed_s)
        self._follow_loss(passed_s)

    @property
    def received_bps(self) -> float:
        """What arrives, over the last second of arrivals."""
        if len(self._arrivals) < 2:
            return 0.0
        span_s = max(0.1, (self._arrivals[-1][0] - self._arrivals[0][0]) / _S)
        return 8 * sum(size for _, size in self._arrivals) / max(0.5, span_s)

    def _judge(self, now_ns: int, arrived: list[Report], passed_s: float) -> None:
        delays = [((r.arrived_ns or 0) - r.sent_ns) / 1e6 for r in arrived]
        least = min(delays)
        self._base_ms = least if self._base_ms is None else min(self._base_ms + 0.5 * passed_s, least)
        delay = sum(delays) / len(delays) - self._base_ms
        self._smoothed_ms = 0.6 * self._smoothed_ms + 0.4 * delay
        self._points.append((now_ns / 1e6, self._smoothed_ms))
        trend = _slope(self._points) * 400.0 * min(1.0, len(self._points) / 6)
        if trend > self._threshold_ms:
            self._over += 1
            self.usage = Usage.OVERUSE if self._over >= 2 and delay > 15.0 else self.usage
        else:
            self._over = 0
            self.usage = Usage.UNDERUSE if trend < -self._threshold_ms else Usage.NORMAL
            # A queue that stands, without growing, is to be drained as well.
            if self.usage is Usage.NORMAL and self._smoothed_ms > 60.0:
                self.usage = Usage.OVERUSE
        gain = 0.87 if abs(trend) < self._threshold_ms else 0.3
        if abs(abs(trend) - self._threshold_ms) < 40.0:
            self._threshold_ms += gain * (abs(trend) - self._threshold_ms) * min(0.1, passed_s)
        self._threshold_ms = max(6.0, min(60.0, self._threshold_ms))

    def _follow_delay(self, passed_s: float) -> None:
        received = self.received_bps
        if self.usage is Usage.OVERUSE:
            if received:
                self._near_bps = received
                self._delay_bps = min(self._delay_bps, 0.85 * received)
        elif self.usage is Usage.NORMAL:
            before = self._delay_bps
            near = self._near_bps is not None and 0.7 * self._near_bps < self._delay_bps < 1.2 * self._near_bps
            if near:
                self._delay_bps += 8 * 1200 * passed_s / 0.2
            else:
                self._delay_bps *= 1.08**passed_s
                if self._near_bps is not None and self._delay_bps >= 1.2 * self._near_bps:
                    self._near_bps = None
            if received:
                self._delay_bps = max(before, min(self._delay_bps, 1.5 * received + 10_000))
        self._delay_bps = max(self._lowest_bps, min(self._highest_bps, self._delay_bps))

    def _follow_loss(self, passed_s: float) -> None:
        loss = self.loss
        if loss > 0.10 and len(self._fates) >= 10:
            start = min(self._loss_bps, self._delay_bps)
            self._loss_bps = max(self._lowest_bps, start * (1 - 0.5 * loss * min(1.0, passed_s)))
        elif loss < 0.02:
            self._loss_bps = min(self._highest_bps, self._loss_bps * 1.5**passed_s)


def _slope(points: Iterable[tuple[float, float]]) -> float:
    """Least-squares slope, y per x; 0 for fewer than two points."""
    pairs = list(points)
    if len(pairs) < 2:
        return 0.0
    mean_x = sum(x for x, _ in pairs) / len(pairs)
    mean_y = sum(y for _, y in pairs) / len(pairs)
    spread = sum((x - mean_x) ** 2 for x, _ in pairs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in pairs) / spread if spread else 0.0
    return slope if math.isfinite(slope) else 0.0
