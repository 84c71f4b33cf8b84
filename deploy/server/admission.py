"""Admission: decides by address and numbers which newcomer is answered, and which one gives way.

The first rule that applies decides:

the server is about to stop                                    503 draining
the address was told to leave less than `EXPELLED_S` ago       429 expelled
its last connections came to nothing, `n` of them in a row,
  the last one less than 2ⁿ s ago (`n` ≥ 2; at most `LONGEST_S`) 429 came-to-nothing
the address has `per_address` conversations, those that are
  being made included                                          429 too-many
all conversations are taken, or the machine is busy            503 busy
`connecting` are answered and not connected yet, and none of
  them has to give way                                         503 connecting
`answers_per_s` were answered, and the rest is for others      503 connecting

An answer costs milliseconds, a few sockets and tens of kilobytes, and takes no pipeline: that is taken by those who
connect (`newcomer.py`). So there are many places, and a flood of offers without a connection is bounded by two things.

**Who gives way** where every place is taken: whose address has failed more often than the newcomer's, or, where that
is equal, whose network (/24, /48 of IPv6) or address holds more places; of those the worst, and of equals the oldest.
One that is no worse gives way once it has had `HONEST_S`, or, with a path to it (ICE), `REACHED_S`.

**Whom answers are for.** There are `answers_per_s`, and a second's worth at once. The last half of them is for those
whose address has not failed and holds no place, and whose network holds less than `SHARE` of all: no number of offers
from others keeps them waiting.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from thalweg.deploy.door.refused import CONNECTING, Refused

NOTHING = "came-to-nothing"
EXPELLED_S = 30.0
HONEST_S = 1.5
REACHED_S = 6.0
LONGEST_S = 300.0
FORGOTTEN_S = 900.0
RETURNS = 6.0
RETURN_S = 1.0
ADDRESSES = 10_000
ANSWERS_PER_S = 80.0
SHARE = 1 / 16


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
    """The refusal of a visitor where all conversations are taken."""
    return Refused(503, "busy", "Everybody here is talking already. Try again in a moment.")


def too_many(mine: int) -> Refused:
    """The refusal of a visitor whose address has as many conversations as it may."""
    return Refused(429, "too-many", f"There are already {mine} conversations from your address. End one of them first.")


def crowded() -> Refused:
    """The refusal of a newcomer where too many others are connecting: clients try again by themselves."""
    return Refused(503, CONNECTING, "Many are connecting just now. Try again in a moment.")


class Place(Protocol):
    """A newcomer who was answered and is not connected yet, for `since_s` seconds. `reached`: there is a path."""

    address: str

    @property
    def since_s(self) -> float:
        """Seconds since they were answered first."""
        ...

    @property
    def reached(self) -> bool:
        """Whether there is a path between the two sides (ICE)."""
        ...


@dataclass(slots=True)
class Failures:
    """Of one address: connections in a row that came to nothing, and when the last did."""

    count: int
    then_s: float


Rank = tuple[int, int, int]
"""Failures of an address, places of its network, places of its own: the greater, the sooner it gives way."""


class Admission:
    """`connecting`: places for newcomers who are not connected yet."""

    def __init__(self, per_address: int, connecting: int, answers_per_s: float = ANSWERS_PER_S) -> None:
        self._per_address = per_address
        self._connecting = connecting
        self._answers_per_s = answers_per_s
        self._answers = answers_per_s
        self._then_s = -float("inf")
        self._expelled: OrderedDict[str, float] = OrderedDict()
        self._failures: OrderedDict[str, Failures] = OrderedDict()

    def admit(
        self, address: str, places: Mapping[str, Place], now_s: float, *, mine: int = 0, is_full: bool = False
    ) -> str | None:
        """Answer a newcomer from `address`, who has `mine` conversations. Raises Refused.

        `places`: of those who are connecting, by name. Returns whose place the newcomer takes, None where one is free.
        """
        self._check(address, now_s)
        connecting = sum(place.address == address for place in places.values())
        mine += connecting
        if mine >= self._per_address:
            raise too_many(mine)
        if is_full:
            raise full()
        self._await_answer(now_s)
        if self._answers < 1.0 + self._answers_per_s / 2 and (connecting or not self._is_new(address, places, now_s)):
            raise crowded()
        going = None
        if len(places) >= self._connecting:
            going = self._to_go(address, places, now_s)
            if going is None:
                raise crowded()
        self._answers -= 1.0
        return going

    def _check(self, address: str, now_s: float) -> None:
        """Check what an address has done before. Raises Refused."""
        if now_s < self._expelled.get(address, -float("inf")):
            raise Refused(429, "expelled", "Your last connection was ended for sending too much. Wait a moment.")
        failed = self._failed(address, now_s)
        if failed >= 2 and now_s < self._failures[address].then_s + min(LONGEST_S, 2.0 ** min(failed, 10)):
            raise Refused(429, NOTHING, f"Your last {failed} connections came to nothing. Wait a moment.")

    def _to_go(self, address: str, places: Mapping[str, Place], now_s: float) -> str | None:
        """Who must give way to a newcomer at `address`, by name; None if none must."""
        at_address = Counter(place.address for place in places.values())
        in_network: Counter[str] = Counter()
        for one, count in at_address.items():
            in_network[network(one)] += count

        def rank(one: str, coming: int = 0) -> Rank:
            return self._failed(one, now_s), in_network[network(one)] + coming, at_address[one] + coming

        mine = rank(address, 1)
        ranks = {one: rank(one) for one in at_address}
        worse = [
            (ranks[place.address], place.since_s, name)
            for name, place in places.items()
            if ranks[place.address] > mine or place.since_s > (REACHED_S if place.reached else HONEST_S)
        ]
        return max(worse)[2] if worse else None

    def _is_new(self, address: str, places: Mapping[str, Place], now_s: float) -> bool:
        """Whether neither an address nor its network has had its share."""
        if self._failed(address, now_s):
            return False
        mine = network(address)
        return sum(network(place.address) == mine for place in places.values()) < max(1, self._connecting * SHARE)

    def _await_answer(self, now_s: float) -> None:
        """Check whether there is an answer left. Raises Refused."""
        grown = max(0.0, now_s - self._then_s) * self._answers_per_s
        self._answers, self._then_s = min(self._answers_per_s, self._answers + grown), now_s
        if self._answers < 1.0:
            raise crowded()

    def pressed(self, places: int) -> bool:
        """Whether places or answers are getting scarce."""
        return places > self._connecting / 2 or self._answers < self._answers_per_s / 2

    def expelled(self, address: str, now_s: float) -> None:
        """A visitor from this address was expelled."""
        self._expelled[address] = now_s + EXPELLED_S
        self._expelled.move_to_end(address)
        if len(self._expelled) > ADDRESSES:
            self._expelled.popitem(last=False)

    def came_to_nothing(self, address: str, now_s: float) -> None:
        """A newcomer from this address was answered and never connected."""
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


@lru_cache(maxsize=ADDRESSES)
def network(address: str) -> str:
    """Where an address (`who` of door/addresses.py) belongs: its /24, or /48 of IPv6; a text that is none, itself."""
    try:
        found = ipaddress.ip_network(address)
    except ValueError:
        return address
    return str(found.supernet(new_prefix=24 if found.version == 4 else 48))
