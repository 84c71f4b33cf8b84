"""Packets of a stream back in order, and the missing ones named as soon as it is sure enough that they are.

A machine that listens does not mind jitter: it wants every unit the moment it is there. So what is in order passes at
once, which costs no delay at all; only behind a missing packet the later ones wait, for `patience_ns`, or until
`capacity` of them do.

    packet                          effect
    the next one                    passed on, with those that were waiting behind it
    ahead of the next               waits
    older than what was passed on   dropped: late, or twice
    far away, alone                 dropped: one stray number must not move the stream (RFC 3550 A.1)
    far away, followed by its next  the stream begins anew there
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from thalweg.transports.webrtc.rtp_time import Unwrap

FAR = 1000


@dataclass(frozen=True, slots=True)
class MediaUnit:
    """One packet in its place; `data` is None where it never came. `timestamp`: unwrapped; None where missing."""

    seq: int
    timestamp: int | None
    data: bytes | None
    arrival_ns: int


class Reorder:
    """One stream. `lost`, `late`, `stray`: how many packets never came, came too late, had a number from nowhere."""

    def __init__(self, patience_ns: int = 60_000_000, capacity: int = 50) -> None:
        self.lost = self.late = self.stray = 0
        self._patience_ns = patience_ns
        self._capacity = capacity
        self._seq = Unwrap(16)
        self._time = Unwrap(32)
        self._next: int | None = None
        self._probation: int | None = None
        self._waiting: dict[int, MediaUnit] = {}

    def push(self, seq: int, timestamp: int, data: bytes, now_ns: int) -> None:
        """A packet came: `seq` of 16 bits, `timestamp` of 32."""
        if self._next is not None:
            distance = (seq - self._next + 0x8000) % 0x10000 - 0x8000
            if abs(distance) > FAR:
                self.stray += 1
                if seq != self._probation:
                    self._probation = (seq + 1) % 0x10000
                    return
                self._seq, self._time = Unwrap(16), Unwrap(32)
                self._next = None
                self._waiting.clear()
        self._probation = None
        found = self._seq(seq)
        if self._next is None:
            self._next = found
        if found < self._next or found in self._waiting:
            self.late += 1
            return
        self._waiting[found] = MediaUnit(found, self._time(timestamp), data, now_ns)

    def pop(self, now_ns: int) -> Iterator[MediaUnit]:
        """What can be passed on now, in order."""
        while self._waiting and self._next is not None:
            unit = self._waiting.pop(self._next, None)
            if unit is None:
                oldest = min(found.arrival_ns for found in self._waiting.values())
                if now_ns - oldest < self._patience_ns and len(self._waiting) < self._capacity:
                    return
                self.lost += 1
                unit = MediaUnit(self._next, None, None, now_ns)
            self._next += 1
            yield unit
