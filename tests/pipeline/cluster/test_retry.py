"""The pauses between the tries of a source."""

from __future__ import annotations

from thalweg.pipeline.cluster.retry import LONGEST_NS, STEADY_NS, Retry

S = 1_000_000_000


def test_pauses_double_up_to_the_longest() -> None:
    retry = Retry(S)
    assert [retry.failed(0, 0) // S for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_source_that_ran_for_long_is_tried_soon_again() -> None:
    retry = Retry(S)
    for _ in range(5):
        retry.failed(0, 0)
    assert retry.failed(0, STEADY_NS) == S


def test_a_first_pause_beyond_the_longest_stays_as_it_is() -> None:
    retry = Retry(2 * LONGEST_NS)
    assert [retry.failed(0, 0) for _ in range(2)] == [2 * LONGEST_NS] * 2
