"""The order in which hosts are asked to take a new visitor: a decision about numbers.

Each host decides whether it takes a visitor, for only it knows all whom it has admitted: of two fronts that send a
visitor to its last place, one is refused. So this gives an order to ask in, best first. Nothing is reserved here except
requests under way from this front: `pending`.

goes before   why
ready         a pipeline waits there; elsewhere one would have to be loaded first
room          it is known to have room, or nothing is known against it
emptier       a smaller share of its places is taken, or, where no limit is known, fewer people are there
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is known of one host. `held`: conversations, `pending`: sent there and not answered for; `limit`: None: not
    known.
    """

    name: str
    ready: bool
    held: int
    pending: int
    limit: int | None
    busy: bool

    @property
    def full(self) -> bool:
        """Whether it would say no, as far as is known."""
        return self.busy or (self.limit is not None and self.held + self.pending >= self.limit)

    @property
    def share(self) -> float:
        """How much of it is taken."""
        taken = self.held + self.pending
        return taken / self.limit if self.limit else float(taken)


def order(hosts: Iterable[Room]) -> list[str]:
    """The names of all of them, best first: a full one may have room by the time it is asked."""
    ranked = sorted(hosts, key=lambda host: (host.full, not host.ready, host.share, host.name))
    return [host.name for host in ranked]
