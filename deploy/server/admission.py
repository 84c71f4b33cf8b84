"""Who gets a conversation: a decision about addresses and numbers, without a pipeline.

Asked in this order; the first that applies is the answer:

the server is about to stop                                    503 draining
the address was told to leave less than `EXPELLED_S` ago       429 expelled
the address has `per_address` conversations, those that are
  being made included                                          429 too-many
as many talk as may, or the machine is busy                    503 busy
`connecting` are let in and not connected yet                  503 busy, unless one of them has had `HONEST_S`

A connection comes about in less than a second where it comes about at all; whoever takes longer loses their place to a
newcomer as soon as there is none other.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from thalweg.deploy.door.refused import Refused

EXPELLED_S = 30.0
HONEST_S = 3.0
ADDRESSES = 1_000


class Admission:
    """`pending`: newcomers by address that have been let in and have no conversation yet."""

    def __init__(self, per_address: int, connecting: int) -> None:
        self.pending: Counter[str] = Counter()
        self._per_address = per_address
        self._connecting = connecting
        self._expelled: OrderedDict[str, float] = OrderedDict()

    def check(self, address: str, *, mine: int, full: bool, connecting: int, now_s: float) -> None:
        """Whether somebody at `address` may come in, who has `mine` conversations there. Raises Refused.

        `connecting`: how many are let in that are not connected and have not had long enough for that.
        """
        if now_s < self._expelled.get(address, -float("inf")):
            raise Refused(429, "expelled", "Your last connection was ended for sending too much. Wait a moment.")
        mine += self.pending[address]
        if mine >= self._per_address:
            raise Refused(
                429, "too-many", f"There are already {mine} conversations from your address. End one of them first."
            )
        if full:
            raise Refused(503, "busy", "Everybody here is talking already. Try again in a moment.")
        if connecting + self.pending.total() >= self._connecting:
            raise Refused(503, "busy", "Many are connecting just now. Try again in a moment.")

    @contextmanager
    def counted(self, address: str) -> Iterator[None]:
        """Whoever is inside counts, though they have no conversation yet."""
        self.pending[address] += 1
        try:
            yield
        finally:
            self.pending[address] -= 1
            if not self.pending[address]:
                del self.pending[address]

    def expelled(self, address: str, now_s: float) -> None:
        """Somebody at this address was told to leave."""
        self._expelled[address] = now_s + EXPELLED_S
        self._expelled.move_to_end(address)
        if len(self._expelled) > ADDRESSES:
            self._expelled.popitem(last=False)
