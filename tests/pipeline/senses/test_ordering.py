"""Units come out in order, once each, and nothing waits for long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.senses.ordering import Ordering


def test_swapped_neighbours_come_out_in_order() -> None:
    order: Ordering[int] = Ordering()
    assert [order.push(i, i) for i in (0, 2, 1, 3)] == [[0], [], [1, 2], [3]]
    assert (order.lost, order.repeated) == (0, 0)


def test_a_unit_that_comes_twice_is_dropped_and_counted() -> None:
    order: Ordering[int] = Ordering()
    assert [order.push(i, i) for i in (0, 1, 1, 2)] == [[0], [1], [], [2]]
    assert order.repeated == 1


def test_a_lost_unit_holds_up_one_other_and_no_more() -> None:
    order: Ordering[int] = Ordering()
    assert [order.push(i, i) for i in (0, 2, 3)] == [[0], [], [2, 3]]
    assert order.lost == 1


def test_the_last_unit_waits_for_nobody() -> None:
    order: Ordering[int] = Ordering()
    assert order.push(0, 0) + order.push(2, 2, last=True) == [0, 2]


@given(st.lists(st.integers(0, 12), max_size=40), st.integers(0, 3))
def test_whatever_comes_goes_out_ascending_and_is_accounted_for(indices: list[int], reach: int) -> None:
    order: Ordering[int] = Ordering(reach)
    out = [item for index in indices for item in order.push(index, index)]
    assert order.pushed == order.taken + order.waiting + order.repeated
    assert order.waiting <= reach
    out += order.drain()
    assert out == sorted(set(out))
    assert order.pushed == order.taken + order.repeated
