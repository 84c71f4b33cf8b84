"""How an honest newcomer fares at admission while others flood it with offers to which no connection comes: simulated.

Each flooding address offers whenever its turn comes, `rate` times a second in all, as `bench siege hollow` does: the
front door lets about 900 through at first, 400 later. The newcomer tries once, and again after each of the pauses that
the server asks for; a connection takes them `CONNECTS_S`, in which their place must not be taken.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from thalweg.deploy.door.refused import CONNECTING, WAITS_S, Refused
from thalweg.deploy.server.admission import ANSWERS_PER_S, Admission
from thalweg.deploy.server.newcomer import MOST

CONNECTS_S = 0.6
TRIES = 3
RATE = 900.0
HONEST = "203.0.113.7"


def neighbours(n: int) -> str:
    """As many as there are, from few networks, as those of `bench siege`."""
    return f"10.0.{n // 250}.{1 + n % 250}"


def strewn(n: int) -> str:
    """Each from a network of its own."""
    return f"{1 + n % 200}.{n // 200}.9.9"


class Held:
    """A place, of a `served` since now."""

    reached = False

    def __init__(self, address: str, served: Served) -> None:
        self.address, self._served, self._then_s = address, served, served.now_s

    @property
    def since_s(self) -> float:
        return self._served.now_s - self._then_s


class Served:
    """The server's side: places by name."""

    def __init__(self) -> None:
        self.admission = Admission(per_address=4, connecting=MOST)
        self.places: dict[str, Held] = {}
        self.answered = 0
        self.now_s = 0.0

    def offer(self, address: str, now_s: float) -> str | None:
        """The place of an offer; None where it is refused."""
        self.now_s = now_s
        try:
            going = self.admission.admit(address, self.places, now_s)
        except Refused:
            return None
        if going is not None:
            self._fails(going, now_s)
        self.answered += 1
        name = str(self.answered)
        self.places[name] = Held(address, self)
        return name

    def pass_time(self, now_s: float) -> None:
        self.now_s = now_s
        while self.places and next(iter(self.places.values())).since_s > 20.0:
            self._fails(next(iter(self.places)), now_s)

    def _fails(self, name: str, now_s: float) -> None:
        self.admission.came_to_nothing(self.places.pop(name).address, now_s)


def flood(count: int, at: Callable[[int], str], rate: float, until_s: float) -> Iterator[tuple[float, str]]:
    now_s, n = 0.0, 0
    while now_s < until_s:
        yield now_s, at(n % count)
        now_s, n = now_s + 1.0 / rate, n + 1


def tries_of_a_newcomer(count: int, at: Callable[[int], str], *, comes_s: float) -> int:
    """After how many tries they are connected; `TRIES` + 1 where none succeeded."""
    served = Served()
    mine: str | None = None
    tries, again_s, given_s = 0, comes_s, 0.0
    for now_s, address in flood(count, at, RATE, comes_s + TRIES * (1.25 * WAITS_S[CONNECTING] + CONNECTS_S)):
        served.pass_time(now_s)
        served.offer(address, now_s)
        assert len(served.places) <= MOST
        if mine is not None and mine not in served.places:
            mine, again_s = None, now_s
        if mine is not None and now_s - given_s > CONNECTS_S:
            return tries
        if mine is None and now_s >= again_s and tries < TRIES:
            tries, given_s, again_s = tries + 1, now_s, now_s + WAITS_S[CONNECTING]
            mine = served.offer(HONEST, now_s)
    return TRIES + 1


def tries_of_many(count: int, at: Callable[[int], str], first_s: float, last_s: float) -> list[int]:
    """Of four newcomers, who come between two times, each to a server of their own."""
    draw = random.Random(count)
    return [tries_of_a_newcomer(count, at, comes_s=draw.uniform(first_s, last_s)) for _ in range(4)]


@pytest.mark.parametrize("count", [30, 100, 1000])
def test_a_newcomer_gets_in_at_the_first_try_however_many_addresses_of_a_few_networks_flood(count: int) -> None:
    assert tries_of_many(count, neighbours, 0.1, 4.0) == [1, 1, 1, 1]


@pytest.mark.parametrize("count", [30, 100])
def test_a_newcomer_gets_in_at_the_first_try_where_each_that_floods_has_a_network_of_its_own(count: int) -> None:
    assert tries_of_many(count, strewn, 0.1, 4.0) == [1, 1, 1, 1]


def test_addresses_of_a_thousand_networks_are_each_answered_before_a_newcomer_once_and_then_no_more() -> None:
    assert tries_of_a_newcomer(1000, strewn, comes_s=2.0) > 1
    assert tries_of_a_newcomer(1000, strewn, comes_s=1000 / ANSWERS_PER_S + 1.0) == 1


def test_a_flood_is_answered_no_oftener_than_there_are_answers() -> None:
    served = Served()
    for now_s, address in flood(1000, strewn, RATE, 3.0):
        served.offer(address, now_s)
    assert served.answered <= 4 * ANSWERS_PER_S
