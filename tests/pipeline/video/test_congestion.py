"""The ceiling: follows a link up and down without a folder queue, and tells radio loss from a full queue."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.video.congestion import CongestionEstimate, Report
from thalweg.pipeline.video.impairment import Impairment, Link

MS = 1_000_000
S = 1_000_000_000


def drive(link: Link, seconds: int, start_bps: int = 300_000, seed: int = 0) -> tuple[list[int], list[float]]:
    """A sender that always sends at the ceiling, 20 ms at a time, told every 100 ms. Ceilings and delays per second."""
    estimate, path = CongestionEstimate(start_bps), Impairment[tuple[int, int]](link, seed)
    flying: list[Report] = []
    sent: dict[int, tuple[int, int]] = {}
    ceilings, delays, worst = [], [], 0.0
    number, debt = 0, 0.0
    for step in range(seconds * 50):
        now = step * 20 * MS
        while (path.next_ns or now + 1) <= now:
            at = path.next_ns or now
            item = path.pop(at)
            if item is not None:
                which, size = item
                flying.append(Report(sent[which][0], at, size))
                worst = max(worst, (at - sent.pop(which)[0]) / MS)
        debt += estimate.ceiling_bps * 0.02 / 8
        while debt >= 1200:
            debt -= 1200
            number += 1
            if path.push((number, 1200), 1200, now) is None:
                sent[number] = (now, 1200)
            else:
                flying.append(Report(now, None, 1200))
        if step % 5 == 0:
            estimate.update(now, flying)
            flying = []
        if step % 50 == 49:
            ceilings.append(estimate.ceiling_bps)
            delays.append(worst)
            worst = 0.0
    return ceilings, delays


def test_it_finds_a_narrow_link_and_leaves_no_standing_queue() -> None:
    ceilings, delays = drive(Link(rate=500_000, delay_ms=30), 60)
    assert 300_000 <= sum(ceilings[30:]) / 30 <= 560_000
    assert sorted(delays[30:])[15] < 130


def test_it_rises_on_a_wide_link() -> None:
    ceilings, _ = drive(Link(rate=4_000_000, delay_ms=30), 45)
    assert ceilings[-1] > 2 * 300_000


def test_it_falls_within_two_seconds_when_the_link_narrows() -> None:
    ceilings, _ = drive(Link(trace=((20, 2_000_000), (100, 300_000)), delay_ms=30), 30, start_bps=1_200_000)
    assert ceilings[18] > 700_000
    assert min(ceilings[20:24]) < 330_000


def test_loss_without_delay_below_ten_percent_costs_nothing() -> None:
    ceilings, _ = drive(Link(rate=3_000_000, delay_ms=30, loss=0.05), 30)
    assert ceilings[-1] > 300_000


def test_heavy_loss_lowers_it() -> None:
    ceilings, _ = drive(Link(rate=3_000_000, delay_ms=30, loss=0.3), 20, start_bps=1_000_000)
    assert ceilings[-1] < 300_000


def test_the_receivers_own_limit_counts_at_once_and_can_be_taken_back() -> None:
    estimate = CongestionEstimate(1_000_000)
    estimate.remb(200_000)
    assert estimate.ceiling_bps == 200_000
    estimate.remb(None)
    assert estimate.ceiling_bps == 1_000_000


def test_silence_changes_nothing() -> None:
    estimate = CongestionEstimate(400_000)
    for i in range(100):
        estimate.update(i * S, [])
    assert estimate.ceiling_bps == 400_000


@given(
    st.lists(
        st.tuples(st.integers(-(10**12), 10**12), st.none() | st.integers(-(10**12), 10**12), st.integers(0, 10**6)),
        max_size=60,
    )
)
def test_whatever_the_clocks_say_the_ceiling_stays_in_bounds(reports: list[tuple[int, int | None, int]]) -> None:
    estimate = CongestionEstimate(lowest_bps=10_000, highest_bps=10_000_000)
    for sent, arrived, size in reports:
        estimate.update(sent, [Report(sent, arrived, size)])
        assert 10_000 <= estimate.ceiling_bps <= 10_000_000
        assert 0 <= estimate.loss <= 1


def test_a_trace_with_an_outage_is_survived() -> None:
    ceilings, _ = drive(Link(trace=((10, 1_000_000), (3, 0), (20, 1_000_000)), delay_ms=30), 33)
    assert ceilings[-1] > 100_000
