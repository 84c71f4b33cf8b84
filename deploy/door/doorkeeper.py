"""Which clients may connect and send requests, and when one is sent away: decisions of a front door, without a socket.

Theory of operation. A client can take down a server of one event loop by occupying its descriptors (half-sent requests,
kept open) or its loop (endless requests). Two state machines bound both, per address, before other clients are
affected. No clock inside: times are arguments, seconds of any one clock.

**Places.** A connection holds one, of `connections` in all and `per_address` for one address.

state      event                                      next
–          connects                                   WAITING
–          connects, its address connects too often   refused
–          connects, its address has `per_address`    WAITING in the place of its own that waits longest, which has to
                                                      go; refused where all of them are being answered
–          connects, every place is taken             WAITING in the place of another, who has to go: of the address
                                                      that has most places the one that waits longest; where no address
                                                      has more than one, one that has waited for `PATIENCE_S`, longest
                                                      first; refused where there is none, or it is its own address
WAITING    its request has come                       ANSWERED
WAITING    `header_s` passed                          sent away
ANSWERED   its answer has left                        WAITING
ANSWERED   `request_s` passed                         sent away
any        it closes                                  –

**Buckets.** Each address has one for connections and one for requests, of `BURST_S` seconds' worth, filled at
`connects_per_s` and `requests_per_s`, or at an equal share of `total_per_s` where many addresses ask (of connections at
the same part of that). Who finds it empty is refused. An
address that goes on to ask all the same, `STRIKES` times, is barred for `BARRED_S`: it is not even listened to, which
costs next to nothing. Behind a trusted proxy only requests are counted by address, for the connections are the proxy's.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from thalweg.deploy.door.refused import Refused

BURST_S = 5.0
STRIKES = 100
BARRED_S = 10.0
PATIENCE_S = 2.0
ADDRESSES = 10_000
ACTIVE_S = 5.0


class PlaceState(Enum):
    """See the table above."""

    WAITING = "waiting"
    ANSWERED = "answered"


TRANSITIONS: Mapping[PlaceState, frozenset[PlaceState]] = {
    PlaceState.WAITING: frozenset({PlaceState.ANSWERED}),
    PlaceState.ANSWERED: frozenset({PlaceState.WAITING}),
}
"""The table above as data: state → possible next states, without itself."""


@dataclass(slots=True, eq=False)
class ConnectionPlace:
    """What one connection holds. `since_s`: when its state began."""

    address: str
    since_s: float
    state: PlaceState = PlaceState.WAITING


@dataclass(slots=True)
class Account:
    """Of one address: connections and requests it may still make, as of `then_s`; refusals since it kept quiet."""

    connections: float
    requests: float
    then_s: float
    strikes: int = 0
    barred_s: float = -float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorLimits:
    """Guard against harm, not against use. See above; `total_per_s` is of all addresses together.

    `connects_per_s`: None: as `requests_per_s`; fewer where those who may ask keep their connections, for that of a
    stranger is closed with its first answer.
    """

    connections: int = 500
    per_address: int = 128
    header_s: float = 10.0
    request_s: float = 60.0
    requests_per_s: float = 20.0
    total_per_s: float = 400.0
    connects_per_s: float | None = None

    @property
    def connects(self) -> float:
        """Connections for each request that an address may make."""
        return 1.0 if self.connects_per_s is None else self.connects_per_s / self.requests_per_s

    def within(self, connections: int) -> DoorLimits:
        """The same, or with so many connections in all, of which no address has more than half."""
        if self.connections <= connections:
            return self
        return replace(self, connections=connections, per_address=min(self.per_address, max(1, connections // 2)))


class Doorkeeper:
    """Told of every connection and request. `counts`: what was refused or sent away, by kind."""

    def __init__(self, limits: DoorLimits, counts: Counter[str] | None = None) -> None:
        self.limits = limits
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._places: dict[ConnectionPlace, None] = {}
        self._held: Counter[str] = Counter()
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._active = 0
        self._counted_s = -float("inf")

    @property
    def connections(self) -> int:
        """How many places are taken."""
        return len(self._places)

    def connects(
        self, address: str, now_s: float, *, shared: bool = False
    ) -> tuple[ConnectionPlace | None, ConnectionPlace | None]:
        """The place of a new connection, None where it is refused; and who has to go for it.

        `shared`: a trusted proxy, which has many people's connections.
        """
        if not shared:
            account = self._account(address, now_s)
            if now_s < account.barred_s:
                return self._turned_away("barred")
            if account.connections < 1.0:
                return self._turned_away("connects_too_often")
            account.connections -= 1.0
        gone = None
        if not shared and self._held[address] >= self.limits.per_address:
            gone = self._longest(place for place in self._places if place.address == address)
            if gone is None:
                return self._turned_away("connections_of_one_address")
        elif len(self._places) >= self.limits.connections:
            gone = self._to_displace(address, now_s)
            if gone is None:
                return self._turned_away("connections")
        if gone is not None:
            self.counts["displaced"] += 1
            self.closes(gone)
        place = ConnectionPlace(address, now_s)
        self._places[place] = None
        self._held[address] += 1
        return place, gone

    def closes(self, place: ConnectionPlace) -> None:
        """A connection is gone. Idempotent."""
        if place in self._places:
            del self._places[place]
            self._held[place.address] -= 1
            if not self._held[place.address]:
                del self._held[place.address]

    def asked(self, place: ConnectionPlace, now_s: float) -> None:
        """The headers of a request have come."""
        place.state, place.since_s = PlaceState.ANSWERED, now_s

    def answered(self, place: ConnectionPlace, now_s: float) -> None:
        """The answer has left."""
        place.state, place.since_s = PlaceState.WAITING, now_s

    def overdue(self, now_s: float) -> list[ConnectionPlace]:
        """Who has to go, for they have taken too long. They hold no place from here on."""
        longest = {PlaceState.WAITING: self.limits.header_s, PlaceState.ANSWERED: self.limits.request_s}
        late = [place for place in self._places if now_s - place.since_s > longest[place.state]]
        for place in late:
            self.counts[f"slow_{place.state.value}"] += 1
            self.closes(place)
        return late

    def admit(self, address: str, now_s: float) -> None:
        """A request of `address`. Raises Refused where it asks too often."""
        account = self._account(address, now_s)
        if account.requests < 1.0:
            self.counts["too_often"] += 1
            self._strike(account, now_s)
            raise Refused(429, "too-often", "Too many requests from your address. Wait a moment.")
        account.requests -= 1.0

    def barred(self, address: str, now_s: float) -> bool:
        """Whether an address is not to be listened to now."""
        account = self._accounts.get(address)
        return account is not None and now_s < account.barred_s

    def _account(self, address: str, now_s: float) -> Account:
        """The account of an address, filled up to now."""
        burst, part = BURST_S * self.limits.requests_per_s, self.limits.connects
        account = self._accounts.get(address)
        if account is None:
            account = self._accounts[address] = Account(part * burst, burst, now_s)
            if len(self._accounts) > ADDRESSES:
                self._accounts.popitem(last=False)
        self._accounts.move_to_end(address)
        rate = min(self.limits.requests_per_s, self.limits.total_per_s / max(1, self._actives(now_s)))
        grown = max(0.0, now_s - account.then_s) * rate
        account.connections = min(part * burst, account.connections + part * grown)
        account.requests = min(burst, account.requests + grown)
        account.then_s = now_s
        if account.requests > burst / 2 and account.connections > part * burst / 2:
            account.strikes = 0
        return account

    def _actives(self, now_s: float) -> int:
        """How many addresses have come lately; counted anew once a second, for it is asked for every one of them."""
        if now_s >= self._counted_s + 1.0:
            self._counted_s = now_s
            self._active = 0
            for account in reversed(self._accounts.values()):
                if now_s - account.then_s > ACTIVE_S:
                    break
                self._active += 1
        return self._active

    def _strike(self, account: Account, now_s: float) -> None:
        account.strikes += 1
        if account.strikes >= STRIKES:
            account.strikes, account.barred_s = 0, now_s + BARRED_S
            self.counts["addresses_barred"] += 1

    def _turned_away(self, why: str) -> tuple[None, None]:
        self.counts[why] += 1
        return None, None

    def _to_displace(self, address: str, now_s: float) -> ConnectionPlace | None:
        most, held = max(self._held.items(), key=lambda item: item[1])
        if most == address:
            return None
        longest = self._longest(place for place in self._places if held == 1 or place.address == most)
        if longest is None or (held == 1 and now_s - longest.since_s < PATIENCE_S):
            return None
        return longest

    @staticmethod
    def _longest(places: Iterable[ConnectionPlace]) -> ConnectionPlace | None:
        """Which of them waits longest; None where none waits."""
        waiting = [place for place in places if place.state is PlaceState.WAITING]
        return min(waiting, key=lambda place: place.since_s) if waiting else None
