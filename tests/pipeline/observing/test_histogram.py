"""The histogram: quantiles that are never too low and at most a sixteenth too high."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.observing.histogram import Histogram

DURATIONS = st.lists(st.integers(min_value=0, max_value=10**13), min_size=1, max_size=200)


def filled(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(DURATIONS, st.floats(min_value=0.01, max_value=1.0))
def test_a_quantile_lies_between_the_true_one_and_a_sixteenth_above(values: list[int], share: float) -> None:
    true = sorted(values)[max(1, -int(-share * len(values) // 1)) - 1]
    assert true <= filled(values).quantile(share) <= true + true // 16 + 1


@given(DURATIONS, DURATIONS)
def test_adding_two_is_counting_both(a: list[int], b: list[int]) -> None:
    together, both = filled(a), filled(a + b)
    together.add(filled(b))
    assert [together.quantile(q) for q in (0.1, 0.5, 0.99)] == [both.quantile(q) for q in (0.1, 0.5, 0.99)]
    assert (together.count, together.total_ns, together.maximum_ns) == (both.count, both.total_ns, both.maximum_ns)


def test_nothing_counted_is_zero() -> None:
    assert Histogram().quantile(0.5) == 0


@given(DURATIONS)
def test_what_is_shorter_than_a_power_of_two_is_counted_exactly(values: list[int]) -> None:
    exponents = list(range(4, 45))
    assert filled(values).below(exponents) == [sum(value < 2**e for value in values) for e in exponents]


@given(DURATIONS, DURATIONS)
def test_what_came_after_an_earlier_state_is_the_difference(a: list[int], b: list[int]) -> None:
    later = filled(a + b).since(filled(a))
    alone = filled(b)
    assert (later.count, later.total_ns) == (alone.count, alone.total_ns)
    assert later.plain()["counts"] == alone.plain()["counts"]


@given(DURATIONS)
def test_a_histogram_survives_being_sent(values: list[int]) -> None:
    sent = Histogram.from_plain(filled(values).plain())
    assert sent.plain() == filled(values).plain()
    assert sent.count == len(values)


def test_a_histogram_that_began_anew_is_all_new() -> None:
    assert filled([5]).since(filled([1, 2, 3])).count == 1
