"""What became of every result that had a deadline, and what is to blame for those that missed it.

For each stream, at any moment: `made == under_way + in_time + late + sum(dropped)`. A miss is blamed on the part of its
way that took longest beyond what it usually takes: `queue`, `compute` or `link`. What is usual is learned from results
that came in time. A result that was dropped has no times; its reason says whose fault that was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from thalweg.pipeline.channel import Drop

_FORGETTING = 0.05


class Blame(Enum):
    """Which part of the way took too long. UNKNOWN: it was dropped for a reason that says nothing."""

    QUEUE = "queue"
    COMPUTE = "compute"
    LINK = "link"
    UNKNOWN = "unknown"


LINK_LOST: Final = "link_lost"
DROPPED: Final[Mapping[str, Blame]] = {
    Drop.OVERFLOW.value: Blame.QUEUE,
    Drop.SUPERSEDED.value: Blame.QUEUE,
    Drop.EXPIRED.value: Blame.QUEUE,
    Drop.DEADLINE.value: Blame.QUEUE,
    Drop.GONE.value: Blame.LINK,
    Drop.STALE.value: Blame.UNKNOWN,
    LINK_LOST: Blame.LINK,
}
"""Reason of a drop → what is to blame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Where the time of one result went, ns."""

    queue_ns: int
    compute_ns: int
    link_ns: int = 0

    @property
    def whole_ns(self) -> int:
        """From capture to result."""
        return self.queue_ns + self.compute_ns + self.link_ns


@dataclass(slots=True)
class Account:
    """One stream's."""

    made: int = 0
    in_time: int = 0
    late: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    blamed: Counter[str] = field(default_factory=Counter)
    _usual: dict[Blame, float] = field(default_factory=dict)

    @property
    def missed(self) -> int:
        """Late or dropped."""
        return self.late + self.dropped.total()

    @property
    def under_way(self) -> int:
        """Neither here nor dropped so far."""
        return self.made - self.in_time - self.missed

    def make(self) -> None:
        """A packet with a deadline has been captured."""
        self.made += 1

    def arrive(self, times: Times, deadline_ns: int) -> Blame | None:
        """Its result is there; `deadline_ns`: how long it might take. Returns what is to blame where it is late."""
        parts = {Blame.QUEUE: times.queue_ns, Blame.COMPUTE: times.compute_ns, Blame.LINK: times.link_ns}
        if times.whole_ns <= deadline_ns:
            self.in_time += 1
            for part, took_ns in parts.items():
                usual = self._usual.get(part, float(took_ns))
                self._usual[part] = usual + _FORGETTING * (took_ns - usual)
            return None
        self.late += 1
        blame = max(parts, key=lambda part: parts[part] - self._usual.get(part, 0.0))
        self.blamed[blame.value] += 1
        return blame

    def drop(self, reason: str) -> Blame:
        """It will not arrive."""
        self.dropped[reason] += 1
        blame = DROPPED.get(reason, Blame.UNKNOWN)
        self.blamed[blame.value] += 1
        return blame

    def plain(self) -> dict[str, Any]:
        """For reports and the hub's page."""
        return {
            "made": self.made,
            "in_time": self.in_time,
            "late": self.late,
            "dropped": dict(self.dropped),
            "blamed": dict(self.blamed),
        }
