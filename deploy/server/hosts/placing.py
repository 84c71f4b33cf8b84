"""The order in which hosts are asked to take a new visitor, and how many hosts there should be.

Each host decides whether it takes a visitor, for only it knows all whom it has admitted: of two fronts that send a
visitor to its last place, one is refused. So this gives an order to ask in, best first. Nothing is reserved here except
for those whom this front has sent there and the host's news do not count yet: `pending`.

goes before   why
ready         a pipeline waits there; elsewhere one would have to be loaded first. Where there are zones, a host that
              has somebody counts as ready: it has its models, and the next pipeline waits within a moment
room          it is known to have room, or nothing is known against it
near          where some are in the visitor's zone (`zones.py`) and others are not: those that are, at equal room. Room
              is equal in steps of a quarter of the places, or of `STEP` people where no limit is known
emptier       a smaller share of its places is taken, or, where no limit is known, fewer people are there

Hosts are asked for ahead of need: so many that at most `FILL` of all places are taken, each new one taken to hold as
many as the others do on average. A host whose limit is not known yet counts as holding one more than it holds. Where
a worker that all share is full, no more are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

FILL: Final = 0.75
MOST_HOSTS: Final = 64
QUARTERS: Final = 4
STEP: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is known of one host. `held`: conversations, `pending`: sent there and not counted in `held` yet; `limit`:
    None: not known. `far`: not in the zone of the visitor, who has one. `shared_full`: see `HostState`.
    """

    name: str
    ready: bool
    held: int
    pending: int
    limit: int | None
    busy: bool
    far: bool = False
    shared_full: bool = False

    @property
    def full(self) -> bool:
        """Whether it would say no, as far as is known: a busy host still takes the first conversation."""
        taken = self.held + self.pending
        return (self.busy and taken > 0) or (self.limit is not None and taken >= self.limit)

    @property
    def places(self) -> int:
        """Conversations that it can hold, as far as is known."""
        if self.limit is not None:
            return self.limit
        taken = self.held + self.pending
        return taken if self.busy else taken + 1

    @property
    def share(self) -> float:
        """How much of it is taken."""
        taken = self.held + self.pending
        return taken / self.limit if self.limit else float(taken)

    @property
    def level(self) -> int:
        """How much of it is taken, in steps: within one it counts as equal."""
        taken = self.held + self.pending
        return QUARTERS * taken // self.limit if self.limit else taken // STEP


def order(hosts: Iterable[Room]) -> list[str]:
    """The names of all of them, best first: a full one may have room by the time it is asked."""
    known = list(hosts)
    zoned = any(host.far for host in known)
    ranked = sorted(
        known,
        key=lambda host: (
            host.full,
            not (host.ready or (zoned and host.share > 0)),
            host.level if zoned else 0,
            host.far,
            not host.ready,
            host.share,
            host.name,
        ),
    )
    return [host.name for host in ranked]


def taken_of(hosts: Iterable[Room]) -> tuple[int, int]:
    """Conversations on all hosts together, and places for them."""
    known = list(hosts)
    return sum(host.held + host.pending for host in known), sum(host.places for host in known)


def hosts_wanted(hosts: Iterable[Room]) -> int:
    """How many hosts there should be, 1…`MOST_HOSTS`."""
    known = list(hosts)
    taken, places = taken_of(known)
    if any(host.shared_full for host in known):
        return min(MOST_HOSTS, len(known))
    if not taken or not places:
        return 1
    return min(MOST_HOSTS, math.ceil(taken * len(known) / (FILL * places)))
