"""Why deadlines were missed: because packets waited, because stages were slow, or because the link was.

A packet that its deadline overtook in a channel has waited there: `queue`. One that left the pipeline late is blamed on
what has taken packets the most time since the last look, by its mean: the channels that they waited in (`queue`), the
stages that worked on them here (`compute`), or a stage that another machine lends (`link`: the way there and back, and
its work there). So the causes of late packets are those of a moment, not of each packet by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

QUEUE, COMPUTE, LINK = "queue", "compute", "link"


class Spent(NamedTuple):
    """What was spent somewhere so far: ns in all, on so many packets. `cause`: QUEUE, COMPUTE or LINK."""

    cause: str
    total_ns: int
    packets: int


class Causes:
    """Counts misses by cause, look by look. `counts`: so far."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._spent: dict[str, Spent] = {}
        self._late = self._dropped = 0

    def look(self, late: int, dropped: int, spent: Mapping[str, Spent]) -> None:
        """So far, of one pipeline: results that were late, packets that were dropped as too late, and what was spent
        where. Numbers that are lower than before are those of another pipeline, and begin anew.
        """
        if late < self._late or dropped < self._dropped:
            self._late = self._dropped = 0
            self._spent = {}
            self.counts.clear()
        more_late, more_dropped = late - self._late, dropped - self._dropped
        self.counts[QUEUE] += more_dropped
        if more_late:
            self.counts[self._slowest(spent)] += more_late
        self._late, self._dropped, self._spent = late, dropped, dict(spent)

    def _slowest(self, spent: Mapping[str, Spent]) -> str:
        means: Counter[str] = Counter()
        for name, now in spent.items():
            before = self._spent.get(name, Spent(now.cause, 0, 0))
            packets = now.packets - before.packets
            if packets > 0:
                means[now.cause] += (now.total_ns - before.total_ns) // packets
        return max(means, key=lambda cause: means[cause], default=QUEUE)
