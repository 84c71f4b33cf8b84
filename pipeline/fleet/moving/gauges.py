"""What was measured of the places of a stage lately, and what that predicts of the next packet there.

At home: how long a packet takes, and how long it has waited before. Of a lent worker: round trips of beats, and of
packets (in use, or as probes) the whole, of which the worker says how much was computing. What is left beside computing
and the shortest round trip went by in sending, so that says what the link takes of packets of this size. Medians of a
few: a new value counts after two or three packets, a stray one never. No clock inside.
"""

from __future__ import annotations

from collections import deque
from statistics import median_low

from thalweg.pipeline.fleet.moving.placement import BEHIND_NS, Prediction

PACKETS, TRIPS = 5, 30
ENOUGH = 3
"""Packets and round trips that a prediction takes at least."""


class Rhythm:
    """How often packets come, how old they are then, and by when they must be done. Nanoseconds."""

    def __init__(self) -> None:
        self._gaps: deque[int] = deque(maxlen=PACKETS)
        self._ages: deque[int] = deque(maxlen=PACKETS)
        self._last_ns: int | None = None
        self.allowed_ns: int | None = None
        self.upstream_ns = 0

    def came(self, now_ns: int, time_ns: int, deadline_ns: int | None) -> None:
        """A packet captured at `time_ns` is the next one."""
        if self._last_ns is not None and time_ns > self._last_ns:
            self._gaps.append(time_ns - self._last_ns)
        self._last_ns = time_ns
        self._ages.append(max(0, now_ns - time_ns))
        self.upstream_ns = min(self._ages)
        if deadline_ns is not None and deadline_ns > time_ns:
            self.allowed_ns = deadline_ns - time_ns

    @property
    def every_ns(self) -> int:
        """Between two packets' captures; 0 where that is not known."""
        return median_low(self._gaps) if self._gaps else 0

    @property
    def age_ns(self) -> int:
        """Of a packet as it is taken up."""
        return median_low(self._ages) if self._ages else 0


class Home:
    """This node."""

    def __init__(self) -> None:
        self._computes: deque[int] = deque(maxlen=PACKETS)

    def took(self, compute_ns: int) -> None:
        """A packet was processed here."""
        self._computes.append(compute_ns)

    def predict(self, rhythm: Rhythm, *, waiting: bool) -> Prediction | None:
        """`waiting`: packets wait for this place now, so that their age is its doing; None where nothing is known."""
        if not self._computes:
            return None
        queue_ns = rhythm.age_ns if waiting else rhythm.upstream_ns
        return Prediction(queue_ns=queue_ns, compute_ns=median_low(self._computes), every_ns=rhythm.every_ns)


class Away:
    """A lent worker."""

    def __init__(self) -> None:
        self._trips: deque[int] = deque(maxlen=TRIPS)
        self._packets: deque[tuple[int, int, int]] = deque(maxlen=PACKETS)

    def beat(self, trip_ns: int) -> None:
        """A beat went there and back."""
        self._trips.append(max(0, trip_ns))

    def answered(self, whole_ns: int, compute_ns: int, size: int) -> None:
        """A packet of `size` bytes was answered after `whole_ns`, of which it was computed for `compute_ns`."""
        self._packets.append((max(0, whole_ns), max(0, min(compute_ns, whole_ns)), size))

    @property
    def known(self) -> bool:
        """Whether there is enough for a prediction."""
        return len(self._packets) >= ENOUGH and len(self._trips) >= ENOUGH

    def predict_by_beats(self) -> Prediction | None:
        """Of a stage that is not tried out there: how far away it is; None where too little is known."""
        if len(self._trips) < ENOUGH:
            return None
        return Prediction(queue_ns=0, compute_ns=0, round_trip_p95_ns=self._trip_p95_ns)

    @property
    def _trip_p95_ns(self) -> int:
        return sorted(self._trips)[round(0.95 * (len(self._trips) - 1))]

    def predict(self, rhythm: Rhythm) -> Prediction | None:
        """None where too little is known."""
        if not self.known:
            return None
        shortest_ns = min(self._trips)
        compute_ns = median_low([compute for _, compute, _ in self._packets])
        size = median_low([size for _, _, size in self._packets])
        sending_ns = max(1, median_low([whole - compute - shortest_ns for whole, compute, _ in self._packets]))
        behind = 0 < rhythm.every_ns < sending_ns
        return Prediction(
            queue_ns=BEHIND_NS if behind else rhythm.upstream_ns,
            compute_ns=compute_ns,
            size=size,
            rate_bps=size * 8 * 1e9 / sending_ns,
            round_trip_p95_ns=self._trip_p95_ns,
            every_ns=rhythm.every_ns,
        )
