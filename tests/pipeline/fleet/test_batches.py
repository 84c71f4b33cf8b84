"""Batches of the backlog are as large as the link takes in a quarter of a second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.fleet.batches import BatchSize

MS = 1_000_000


def send(batches: BatchSize, rate_bps: float, round_trip_ms: float = 40, count: int = 12) -> float:
    """Send full batches over a link; what the last of them takes, ms."""
    for _ in range(count):
        took_ms = batches.size * 8 / rate_bps * 1e3 + round_trip_ms
        batches.took(batches.size, round(took_ms * MS))
    return batches.size * 8 / rate_bps * 1e3 + round_trip_ms


@pytest.mark.parametrize("rate_bps", [250e3, 500e3, 2e6, 5e6])
def test_a_batch_takes_a_quarter_of_a_second_whatever_the_rate(rate_bps: float) -> None:
    assert 150 <= send(BatchSize(), rate_bps) <= 300


def test_a_link_that_has_become_slow_costs_one_batch_and_one_that_is_quick_is_found_again() -> None:
    batches = BatchSize()
    send(batches, 20e6)
    assert batches.size == batches.most
    send(batches, 500e3, count=1)
    assert batches.size < 20_000
    send(batches, 20e6)
    assert batches.size == batches.most


@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 10**12)), max_size=50))
def test_the_size_stays_within_its_bounds(batches_taken: list[tuple[int, int]]) -> None:
    batches = BatchSize()
    for sent, took_ns in batches_taken:
        batches.took(sent, took_ns)
        assert batches.least <= batches.size <= batches.most


def test_a_small_batch_that_was_quick_says_nothing_about_large_ones() -> None:
    batches = BatchSize()
    batches.took(100, 1)
    assert batches.size == BatchSize().size
