"""What is kept when there is not room for all of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.spool_policy import SpoolClass, SpoolPolicy

EVENTS, TELEMETRY, MEDIA = SpoolClass.EVENTS, SpoolClass.TELEMETRY, SpoolClass.MEDIA


def put(policy: SpoolPolicy, kind: SpoolClass, size: int, name: str) -> tuple[bool, tuple[str, ...]]:
    """Ask, obey, and store in a closed segment of its own."""
    room = policy.room(kind, size)
    for gone in room.remove:
        policy.gone(gone)
    if room.accepted:
        policy.begin(name, kind, size, closed=True)
    return room.accepted, room.remove


def full_of(*kinds: SpoolClass) -> SpoolPolicy:
    """A spool of 100 bytes with as much as possible of each of them, in segments of 5."""
    policy = SpoolPolicy(100)
    for kind in kinds:
        number = 0
        while policy.room(kind, 5) == policy.room(kind, 0) and policy.room(kind, 5).accepted:
            policy.begin(f"{kind.value}{number}", kind, 5, closed=True)
            number += 1
    return policy


def test_the_oldest_media_give_way_first() -> None:
    policy = full_of(TELEMETRY, MEDIA)
    assert put(policy, EVENTS, 25, "e") == (True, ())
    assert put(policy, MEDIA, 5, "m") == (True, ("media0",))


def test_events_take_from_media_then_from_telemetry_and_leave_both_their_reserves() -> None:
    policy = SpoolPolicy(100)
    for number in range(6):
        policy.begin(f"t{number}", TELEMETRY, 5, closed=True)
        policy.begin(f"m{number}", MEDIA, 5, closed=True)
    accepted, gone = put(policy, EVENTS, 80, "e")
    assert accepted and gone == ("m0", "m1", "m2", "m3", "m4", "t0", "t1", "t2")
    assert policy.used(TELEMETRY) == policy.reserve(TELEMETRY) and policy.used(MEDIA) == policy.reserve(MEDIA)


def test_a_spool_full_of_events_refuses_the_next_one_and_gives_up_none() -> None:
    policy = full_of(EVENTS)
    assert put(policy, EVENTS, 5, "one more") == (False, ())


def test_segments_that_are_being_written_stay() -> None:
    policy = SpoolPolicy(100)
    policy.begin("open", MEDIA, 60)
    assert put(policy, MEDIA, 5, "m") == (False, ())


def test_media_never_displace_telemetry() -> None:
    policy = full_of(TELEMETRY)
    before = policy.used(TELEMETRY)
    for number in range(9):
        put(policy, MEDIA, 5, f"m{number}")
    assert policy.used(TELEMETRY) == before


records = st.lists(st.tuples(st.sampled_from(SpoolClass), st.integers(1, 9)), max_size=80)


@given(records)
def test_the_budget_holds_events_stay_and_nothing_fits_worse_than_its_reserve(
    records: list[tuple[SpoolClass, int]],
) -> None:
    policy = SpoolPolicy(100)
    events = 0
    for number, (kind, size) in enumerate(records):
        within = policy.used(kind) + size <= policy.reserve(kind)
        accepted, _ = put(policy, kind, size, str(number))
        events += size if accepted and kind is EVENTS else 0
        assert accepted or not within
        assert sum(map(policy.used, SpoolClass)) <= 100
        assert policy.used(EVENTS) == events


def test_reserves_beyond_the_whole_are_refused() -> None:
    with pytest.raises(ThalwegError, match="holds nothing"):
        SpoolPolicy(100, {EVENTS: 0.9, MEDIA: 0.2})
