"""Admission: decides by address and numbers which visitor gets a conversation.

The first rule that applies decides:

the server is about to stop                                    503 draining
the address was told to leave less than `EXPELLED_S` ago       429 expelled
its last connections came to nothing, `n` of them in a row,
  the last one less than 2ⁿ s ago (`n` ≥ 2; at most `LONGEST_S`) 429 came-to-nothing
the address has `per_address` conversations, those that are
  being made included                                          429 too-many
all places are taken, or the machine is busy                   503 busy
`connecting` are admitted and not connected yet                503 busy, unless one of them has to go

**Who has to go** for a new visitor, of those that are connecting: first the one whose address has failed most often, if
more often than the visitor's; else one that has had `HONEST_S`, since a real connection takes less than a second. So a
client that only reserves places gets each of them once, and from then on gives way to all others.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from thalweg.deploy.door.refused import Refused

NOTHING = "came-to-nothing"
EXPELLED_S = 30.0
HONEST_S = 3.0
LONGEST_S = 300.0
FORGOTTEN_S = 900.0
RETURNS = 6.0
RETURN_S = 1.0
ADDRESSES = 10_000


@dataclass(slots=True)
class Returns:
    """How often a visitor may reconnect to one conversation: `RETURNS` times in a row, then once in `RETURN_S`.

    A new connection costs tens of milliseconds of the event loop that all conversations share. Without this limit a
    visitor could open as many as the door admits requests.
    """

    left: float = RETURNS
    then_s: float = -float("inf")

    def take(self, now_s: float) -> None:
        """Count a reconnection. Raises Refused where they are too frequent."""
        self.left = min(RETURNS, self.left + (now_s - self.then_s) / RETURN_S)
        self.then_s = now_s
        if self.left < 1.0:
            raise Refused(429, "too-often", "You come back to this conversation too often. Wait a moment.")
        self.left -= 1.0


def full() -> Refused:
    """The refusal of a visitor where all places are taken."""
    return Refused(503, "busy", "Everybody here is talking already. Try again in a moment.")


@dataclass(frozen=True, slots=True)
class Connecting:
    """A visitor who was admitted and is not connected yet, for `since_s` seconds."""

    address: str
    since_s: float


@dataclass(slots=True)
class Failures:
    """Of one address: connections in a row that came to nothing, and when the last did."""

    count: int
    then_s: float


class Admission:
    """`pending`: by address, admitted visitors that have no conversation yet."""

    def __init__(self, per_address: int, connecting: int) -> None:
        self.pending: Counter[str] = Counter()
        self._per_address = per_address
        self._connecting = connecting
        self._expelled: OrderedDict[str, float] = OrderedDict()
        self._failures: OrderedDict[str, Failures] = OrderedDict()

    def check(self, address: str, *, mine: int, is_full: bool, connecting: int, now_s: float) -> None:
        """Check whether a visitor from `address`, which has `mine` conversations, may enter. Raises Refused.

        `connecting`: how many are admitted and not connected, without one that must give way.
        """
        if now_s < self._expelled.get(address, -float("inf")):
            raise Refused(429, "expelled", "Your last connection was ended for sending too much. Wait a moment.")
        failed = self._failed(address, now_s)
        if failed >= 2 and now_s < self._failures[address].then_s + min(LONGEST_S, 2.0 ** min(failed, 10)):
            raise Refused(429, NOTHING, f"Your last {failed} connections came to nothing. Wait a moment.")
        mine += self.pending[address]
        if mine >= self._per_address:
            raise Refused(
                429, "too-many", f"There are already {mine} conversations from your address. End one of them first."
            )
        if is_full:
            raise full()
        if connecting + self.pending.total() >= self._connecting:
            raise Refused(503, "busy", "Many are connecting just now. Try again in a moment.")

    def to_go(self, address: str, connecting: Mapping[str, Connecting], now_s: float) -> str | None:
        """The connecting visitor, by name, that must give way to a new one at `address`; None if none must."""
        mine = self._failed(address, now_s)
        failed = {name: self._failed(one.address, now_s) for name, one in connecting.items()}
        going = [name for name, one in connecting.items() if failed[name] > mine or one.since_s > HONEST_S]
        return max(going, key=lambda name: (failed[name], connecting[name].since_s), default=None)

    @contextmanager
    def counted(self, address: str) -> Iterator[None]:
        """Within the block the address counts one more, although it has no conversation yet."""
        self.pending[address] += 1
        try:
            yield
        finally:
            self.pending[address] -= 1
            if not self.pending[address]:
                del self.pending[address]

    def expelled(self, address: str, now_s: float) -> None:
        """A visitor from this address was expelled."""
        self._expelled[address] = now_s + EXPELLED_S
        self._expelled.move_to_end(address)
        if len(self._expelled) > ADDRESSES:
            self._expelled.popitem(last=False)

    def came_to_nothing(self, address: str, now_s: float) -> None:
        """A visitor from this address was admitted and never connected."""
        self._failures[address] = Failures(self._failed(address, now_s) + 1, now_s)
        self._failures.move_to_end(address)
        if len(self._failures) > ADDRESSES:
            self._failures.popitem(last=False)

    def came_about(self, address: str) -> None:
        """A visitor from this address is connected."""
        self._failures.pop(address, None)

    def _failed(self, address: str, now_s: float) -> int:
        found = self._failures.get(address)
        return found.count if found is not None and now_s - found.then_s < FORGOTTEN_S else 0
