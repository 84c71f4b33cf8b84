"""A record of which stage worked when, unit by unit, for pictures and for Perfetto."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """One call of a stage: `stage` worked from `start_ns` to `end_ns` on packet `seq` of `stream`."""

    stage: str
    start_ns: int
    end_ns: int
    stream: str
    seq: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A signal or a failure: something that happened at one moment."""

    stage: str
    time_ns: int
    text: str
    epoch: int


class Trace:
    """The newest `capacity` spans and marks. `dropped`: how many older ones were discarded."""

    def __init__(self, capacity: int = 1_000_000) -> None:
        self.events: deque[Span | Mark] = deque(maxlen=capacity)
        self.dropped = 0

    def add(self, event: Span | Mark) -> None:
        """Keep an event."""
        if len(self.events) == self.events.maxlen:
            self.dropped += 1
        self.events.append(event)
