"""Which newcomer is answered, and which one gives way: by address and numbers; time is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pytest

from thalweg.deploy.door.refused import Refused
from thalweg.deploy.server.admission import EXPELLED_S, FORGOTTEN_S, HONEST_S, LONGEST_S, REACHED_S, Admission


@dataclass
class Somebody:
    """A place."""

    address: str
    since_s: float = 1.0
    reached: bool = False


def check(
    door: Admission,
    address: str,
    places: Mapping[str, Somebody] = MappingProxyType({}),
    mine: int = 0,
    full: bool = False,
    now_s: float = 0,
) -> str | None:
    """Whose place it takes, empty for a free one; the code of a refusal with a minus before it."""
    try:
        return door.admit(address, places, now_s, mine=mine, is_full=full) or ""
    except Refused as refused:
        return f"-{refused.code}"


def test_those_who_are_connecting_count_for_their_address() -> None:
    door = Admission(per_address=3, connecting=8)
    places = {"1": Somebody("a"), "2": Somebody("a")}
    assert check(door, "a", places, mine=1) == "-too-many"
    assert check(door, "b", places, mine=1) == ""
    assert check(door, "a", {}, mine=1) == ""


def test_who_was_told_to_leave_stays_out_for_a_while() -> None:
    door = Admission(per_address=2, connecting=8)
    door.expelled("a", now_s=10.0)
    assert check(door, "a", now_s=10.0) == "-expelled"
    assert check(door, "b", now_s=10.0) == ""
    assert check(door, "a", now_s=10.0 + EXPELLED_S) == ""


def test_a_full_house_is_said_to_be_full_and_not_in_a_hurry() -> None:
    places = {"1": Somebody("b")}
    assert check(Admission(per_address=2, connecting=1), "a", places, full=True) == "-busy"


def test_whose_connections_come_to_nothing_waits_longer_each_time_and_begins_anew_with_one_that_comes_about() -> None:
    door = Admission(per_address=2, connecting=8)
    door.came_to_nothing("a", now_s=0.0)
    assert check(door, "a", now_s=0.0) == ""
    door.came_to_nothing("a", now_s=10.0)
    assert [check(door, "a", now_s=now_s) for now_s in (13.9, 14.0)] == ["-came-to-nothing", ""]
    door.came_to_nothing("a", now_s=20.0)
    assert [check(door, "a", now_s=now_s) for now_s in (27.9, 28.0)] == ["-came-to-nothing", ""]
    assert check(door, "b", now_s=20.0) == ""
    door.came_about("a")
    assert check(door, "a", now_s=20.0) == ""


def test_the_longest_wait_is_bounded_and_old_failures_are_forgotten() -> None:
    door = Admission(per_address=2, connecting=8)
    for _ in range(2000):
        door.came_to_nothing("a", now_s=0.0)
    assert [check(door, "a", now_s=now_s) for now_s in (LONGEST_S - 1, LONGEST_S)] == ["-came-to-nothing", ""]
    door.came_to_nothing("a", now_s=FORGOTTEN_S)
    assert check(door, "a", now_s=FORGOTTEN_S) == ""


def test_who_has_failed_gives_way_to_who_has_not_and_never_the_other_way_round() -> None:
    door = Admission(per_address=2, connecting=3)
    for failing, times in (("once", 1), ("twice", 2)):
        for _ in range(times):
            door.came_to_nothing(failing, now_s=-60.0)
    places = {name: Somebody(name) for name in ("once", "twice", "honest")}
    assert check(door, "new", places) == "twice"
    assert check(door, "once", places) == "twice"
    assert check(door, "twice", places) == "-connecting"
    slow = {"1": Somebody("honest", HONEST_S + 1), "2": Somebody("slower", HONEST_S + 2), "3": Somebody("third")}
    assert check(door, "twice", slow) == "2"


def test_who_has_a_path_to_the_server_is_given_longer() -> None:
    door = Admission(per_address=2, connecting=1)
    assert check(door, "new", {"1": Somebody("a", HONEST_S + 1, reached=True)}) == "-connecting"
    assert check(door, "new", {"1": Somebody("a", REACHED_S + 1, reached=True)}) == "1"


@pytest.mark.parametrize(
    ("crowd", "alone"),
    [
        (("10.0.0.1", "10.0.0.2", "10.0.0.3"), "203.0.113.7"),
        (("2001:db8:1:1::/64", "2001:db8:1:2::/64", "2001:db8:1:3::/64"), "2001:db8:2:1::/64"),
        (("10.0.0.1", "10.0.0.1", "10.0.0.1"), "10.0.0.2"),
    ],
)
def test_the_network_and_the_address_with_most_places_give_way(crowd: tuple[str, ...], alone: str) -> None:
    door = Admission(per_address=9, connecting=4)
    places = {str(n): Somebody(address, 1.0 + n / 10) for n, address in enumerate(crowd)}
    places["alone"] = Somebody(alone, 1.4)
    assert check(door, "198.51.100.1", places) == "2", "the oldest of the crowd"
    assert check(door, crowd[0], places) == "-connecting"


def test_the_last_answers_are_for_those_whose_network_has_had_none() -> None:
    door = Admission(per_address=99, connecting=64, answers_per_s=10.0)
    door.came_to_nothing("failed", now_s=0.0)
    places = {str(n): Somebody("10.0.0.1") for n in range(4)}
    assert [check(door, "10.0.0.2", places) for _ in range(7)] == [""] * 5 + ["-connecting"] * 2
    assert check(door, "10.0.0.1", {"1": Somebody("10.0.0.1")}) == check(door, "failed") == "-connecting"
    assert [check(door, f"10.0.{n}.1", places) for n in range(1, 7)] == [""] * 5 + ["-connecting"]
    assert check(door, "10.0.9.1", places, now_s=0.1) == ""
