"""Every deadline is accounted for, and misses are blamed on what took longer than it does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.channel import Drop
from thalweg.pipeline.fleet.deadlines import DROPPED, LINK_LOST, Account, Blame, Times

MS = 1_000_000


def times(queue: int, compute: int, link: int) -> Times:
    return Times(queue_ns=queue * MS, compute_ns=compute * MS, link_ns=link * MS)


@pytest.mark.parametrize(
    ("took", "blame"),
    [((5, 80, 20), None), ((60, 80, 20), Blame.QUEUE), ((5, 140, 20), Blame.COMPUTE), ((5, 80, 90), Blame.LINK)],
)
def test_the_part_that_took_longer_than_usual_is_blamed(took: tuple[int, int, int], blame: Blame | None) -> None:
    account = Account()
    for _ in range(20):
        account.make()
        account.arrive(times(5, 80, 20), 120 * MS)
    account.make()
    assert account.arrive(times(*took), 120 * MS) is blame


def test_every_reason_of_a_channel_has_somebody_to_blame() -> None:
    assert {drop.value for drop in Drop} | {LINK_LOST} == DROPPED.keys()


fates = st.one_of(
    st.tuples(*[st.integers(0, 300)] * 3), st.sampled_from([*Drop, None]), st.just(LINK_LOST), st.just("unheard of")
)


@given(st.lists(fates, max_size=60))
def test_nothing_that_was_made_is_unaccounted_for(fates: list[object]) -> None:
    account = Account()
    under_way = 0
    for fate in fates:
        account.make()
        if isinstance(fate, tuple):
            account.arrive(times(*fate), 200 * MS)
        elif fate is None:
            under_way += 1
        else:
            account.drop(fate.value if isinstance(fate, Drop) else str(fate))
    assert account.made == account.in_time + account.missed + account.under_way
    assert account.under_way == under_way
    assert account.blamed.total() == account.missed
