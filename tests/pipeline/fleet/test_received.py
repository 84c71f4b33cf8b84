"""What has been dealt with is known again, in whatever order it came."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.received import Arrival, Received


@given(st.lists(st.integers(0, 40), max_size=120))
def test_each_number_is_new_once_in_whatever_order_they_come(numbers: list[int]) -> None:
    received = Received()
    new = [number for number in numbers if received.take(number) is Arrival.NEW]
    assert sorted(new) == sorted(set(numbers))
    assert all(number in received for number in numbers)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=60))
def test_ranges_settle_what_they_hold_and_nothing_else(ranges: list[tuple[int, int]]) -> None:
    received = Received()
    for start, length in ranges:
        received.settle(start, start + length)
    settled = {number for start, length in ranges for number in range(start, start + length)}
    assert {number for number in range(80) if number in received} == settled
    assert received.mark == next(number for number in range(80) if number not in settled)


@given(st.lists(st.integers(0, 200), max_size=100))
def test_marks_that_were_written_are_read_back(numbers: list[int]) -> None:
    received = Received()
    for number in numbers:
        received.take(number)
    assert Received.from_plain(received.plain()).plain() == received.plain()


def test_what_would_need_one_range_too_many_is_not_taken_until_the_gaps_have_filled() -> None:
    received = Received(most_ranges=2)
    assert [received.take(number) for number in (2, 4, 6)] == [Arrival.NEW, Arrival.NEW, Arrival.FULL]
    assert [received.take(number) for number in (3, 6)] == [Arrival.NEW, Arrival.NEW]


@pytest.mark.parametrize("plain", [[], [-1, []], [0, [[3, 2]]], [5, [[2, 3]]], ["0", []], [0, [[1]]]])
def test_marks_that_are_none_are_refused(plain: list[object]) -> None:
    with pytest.raises(ThalwegError):
        Received.from_plain(plain)
