"""What an outage has done to events: how soon they came, which are lost, which came twice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HALF_SECOND_NS = 500_000_000


@dataclass(frozen=True, slots=True)
class Seen:
    """An event at the hub: its number, when it was made and when it was there, in ns since 1970."""

    number: int
    made_ns: int
    seen_ns: int

    @property
    def age_ns(self) -> int:
        """From the one to the other."""
        return self.seen_ns - self.made_ns


@dataclass(frozen=True, slots=True)
class Missing:
    """Of the numbers up to the one acknowledged last."""

    acknowledged: int
    lost: int
    doubled: int


@dataclass(frozen=True, slots=True)
class Account:
    """Times in s since the link was back; NaN where nothing came. Ages in ms, of what was made from `first_s` to
    `drained_s`: p95 of all, and of the half second with the highest one.
    """

    waited: int
    first_s: float
    drained_s: float
    fresh: int
    fresh_p95_ms: float
    fresh_worst_ms: float
    since_back_p95_ms: float


def missing(acknowledged: int, found: Sequence[int]) -> Missing:
    """`acknowledged`: the last number, -1 for none. What came without an acknowledgement is not lost or doubled."""
    distinct = set(found)
    lost = set(range(acknowledged + 1)) - distinct
    return Missing(acknowledged + 1, len(lost), len(found) - len(distinct))


def p95_ms(ages_ns: Iterable[int]) -> float:
    """NaN of none."""
    ordered = sorted(ages_ns)
    return ordered[math.ceil(0.95 * len(ordered)) - 1] / 1e6 if ordered else math.nan


def account(stored: Sequence[Seen], back_ns: int, fresh: Sequence[Seen] | None = None) -> Account:
    """`stored`: what came to the hub's disk; `fresh`: what came by the way that is asked for new events, if another."""
    came = [seen for seen in stored if seen.seen_ns >= back_ns]
    waited = [seen for seen in came if seen.made_ns < back_ns]
    new = [seen for seen in (came if fresh is None else fresh) if seen.made_ns >= back_ns]
    first_ns = min((seen.seen_ns for seen in came), default=back_ns)
    drained_ns = max((seen.seen_ns for seen in waited), default=first_ns)
    meanwhile = [seen for seen in new if first_ns <= seen.made_ns <= drained_ns]
    halves: dict[int, list[int]] = {}
    for seen in meanwhile:
        halves.setdefault((seen.made_ns - first_ns) // HALF_SECOND_NS, []).append(seen.age_ns)
    return Account(
        waited=len(waited),
        first_s=(first_ns - back_ns) / 1e9 if came else math.nan,
        drained_s=(drained_ns - back_ns) / 1e9 if waited else math.nan,
        fresh=len(meanwhile),
        fresh_p95_ms=p95_ms(seen.age_ns for seen in meanwhile),
        fresh_worst_ms=max(map(p95_ms, halves.values()), default=math.nan),
        since_back_p95_ms=p95_ms(seen.age_ns for seen in new if seen.made_ns <= drained_ns),
    )
