"""Who may connect and ask, under a clock of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.deploy.door.doorkeeper import BARRED_S, BURST_S, STRIKES, ConnectionPlace, Doorkeeper, DoorLimits
from thalweg.deploy.door.refused import Refused


def keeper(**limits: float) -> Doorkeeper:
    return Doorkeeper(DoorLimits(**limits))  # type: ignore[arg-type]


def held(door: Doorkeeper, address: str, now_s: float = 0.0) -> ConnectionPlace:
    place, _ = door.connects(address, now_s)
    assert place is not None
    return place


def test_one_address_holds_no_more_connections_than_its_share_and_loses_its_own_that_waits_longest() -> None:
    door = keeper(per_address=2)
    first, second = held(door, "a", 0.0), held(door, "a", 1.0)
    assert door.connects("b", 2.0)[1] is None
    assert door.connects("a", 2.0)[1] is first
    door.asked(second, 3.0)
    door.asked(held(door, "a", 3.0), 3.0)
    assert door.connects("a", 4.0) == (None, None)
    assert door.counts == {"displaced": 2, "connections_of_one_address": 1}


def test_an_address_that_connects_too_often_is_refused_and_not_barred() -> None:
    door = keeper(requests_per_s=2.0, per_address=1000)
    found = [door.connects("a", 0.0)[0] for _ in range(300)]
    assert sum(place is not None for place in found) == 2.0 * BURST_S
    assert door.connects("a", 1.0)[0] is not None


def test_where_every_place_is_taken_the_address_with_most_loses_the_one_that_waits_longest() -> None:
    door = keeper(connections=3)
    oldest = held(door, "greedy", 0.0)
    held(door, "greedy", 1.0)
    held(door, "other", 0.5)
    place, gone = door.connects("honest", 2.0)
    assert place is not None and gone is oldest
    assert door.connections == 3


def test_who_has_most_connections_displaces_nobody() -> None:
    door = keeper(connections=2)
    held(door, "greedy")
    held(door, "greedy")
    assert door.connects("greedy", 100.0) == (None, None)


def test_a_request_that_is_being_answered_is_not_displaced() -> None:
    door = keeper(connections=2)
    for place in (held(door, "a"), held(door, "a")):
        door.asked(place, 1.0)
    assert door.connects("b", 2.0) == (None, None)


def test_where_everybody_has_one_place_only_the_one_who_has_waited_for_long_loses_it() -> None:
    door = keeper(connections=2)
    first = held(door, "a", 0.0)
    held(door, "b", 0.0)
    assert door.connects("c", 1.0) == (None, None)
    assert door.connects("c", 3.0)[1] is first


def test_half_a_request_is_sent_away_when_its_time_is_over_and_so_is_an_answer_that_nobody_takes() -> None:
    door = keeper(header_s=10.0, request_s=60.0)
    half, whole, kept = held(door, "a"), held(door, "a"), held(door, "a")
    door.asked(whole, 0.0)
    door.asked(kept, 0.0)
    door.answered(kept, 5.0)
    assert door.overdue(10.0) == []
    assert door.overdue(10.1) == [half]
    assert door.overdue(15.1) == [kept]
    assert door.overdue(60.1) == [whole]
    assert door.connections == 0


def test_an_address_has_a_burst_of_requests_and_then_its_rate() -> None:
    door = keeper(requests_per_s=2.0)
    for _ in range(round(2.0 * BURST_S)):
        door.admit("a", 0.0)
    with pytest.raises(Refused):
        door.admit("a", 0.0)
    door.admit("b", 0.0)
    door.admit("a", 0.5)
    with pytest.raises(Refused):
        door.admit("a", 0.5)


def test_connections_may_be_fewer_than_requests() -> None:
    door = keeper(requests_per_s=20.0, connects_per_s=2.0, connections=100, per_address=100)
    came = [door.connects("a", 0.0)[0] for _ in range(round(2.0 * BURST_S) + 1)]
    assert all(came[:-1]) and came[-1] is None
    assert door.connects("a", 0.5)[0] is not None and door.connects("a", 0.5)[0] is None
    for _ in range(round(20.0 * BURST_S)):
        door.admit("a", 0.5)


def test_an_address_that_does_not_stop_is_not_listened_to_for_a_while() -> None:
    door = keeper(requests_per_s=1.0)
    for _ in range(round(BURST_S)):
        door.admit("a", 0.0)
    for _ in range(STRIKES):
        with pytest.raises(Refused):
            door.admit("a", 0.0)
    assert door.barred("a", 0.0) and not door.barred("b", 0.0)
    assert door.connects("a", 1.0) == (None, None)
    assert not door.barred("a", BARRED_S)
    assert door.connects("a", BARRED_S)[0] is not None


def test_a_hundred_addresses_share_the_whole_and_one_more_still_has_its_burst() -> None:
    door = keeper(requests_per_s=20.0, total_per_s=100.0)
    admitted = 0
    for tick in range(100 * 60):  # each of a hundred asks ten times a second, for a minute
        for address in (f"10.0.0.{tick % 100}", f"10.0.0.{(tick + 50) % 100}"):
            for _ in range(5):
                try:
                    door.admit(address, tick / 100)
                    admitted += tick >= 3000
                except Refused:
                    pass
    assert admitted < 1.2 * 100.0 * 30
    for _ in range(50):
        door.admit("honest", 60.0)


def test_what_is_known_of_addresses_stays_in_bounds_and_the_busiest_is_not_forgotten_first() -> None:
    door = keeper(requests_per_s=1.0)
    for _ in range(round(BURST_S)):
        door.admit("busy", 0.0)
    for number in range(20_000):
        door.admit(f"n{number}", 0.0)
        if number % 5000 == 0:
            with pytest.raises(Refused):
                door.admit("busy", 0.0)
    assert len(door._accounts) <= 10_000
    with pytest.raises(Refused):
        door.admit("busy", 0.0)


@given(
    st.lists(st.tuples(st.sampled_from(["connect", "close", "ask", "answer", "sweep"]), st.integers(0, 4)), max_size=80)
)
def test_places_are_counted_right_whatever_happens(events: list[tuple[str, int]]) -> None:
    door, places, now_s = keeper(connections=4, per_address=3), list[ConnectionPlace](), 0.0
    for event, number in events:
        now_s += 1.0
        if event == "connect":
            place, gone = door.connects(f"a{number}", now_s)
            places = [p for p in places if p is not gone] + ([place] if place else [])
        elif event == "sweep":
            late = door.overdue(now_s)
            places = [p for p in places if p not in late]
        elif number < len(places):
            if event == "close":
                door.closes(places.pop(number))
            else:
                (door.asked if event == "ask" else door.answered)(places[number], now_s)
        assert door.connections == len(places) <= 4
        for address in {p.address for p in places}:
            assert door._held[address] == sum(p.address == address for p in places) <= 3
