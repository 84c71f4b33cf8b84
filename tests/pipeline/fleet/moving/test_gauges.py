"""What was measured of a place, and what that predicts."""

from __future__ import annotations

from thalweg.pipeline.fleet.moving.gauges import Away, Home, Rhythm
from thalweg.pipeline.fleet.moving.placement import BEHIND_NS

MS = 1_000_000


def rhythm(age_ms: int = 5) -> Rhythm:
    """A packet every 100 ms, due 250 ms after its capture."""
    found = Rhythm()
    for number in range(10):
        found.came(number * 100 * MS + age_ms * MS, number * 100 * MS, number * 100 * MS + 250 * MS)
    return found


def away(whole_ms: int, compute_ms: int, trip_ms: int) -> Away:
    found = Away()
    for _ in range(5):
        found.beat(trip_ms * MS)
        found.answered(whole_ms * MS, compute_ms * MS, 30_000)
    return found


def test_a_rhythm_knows_the_gap_between_captures_and_what_is_allowed() -> None:
    assert (rhythm().every_ns, rhythm().allowed_ns, rhythm().upstream_ns) == (100 * MS, 250 * MS, 5 * MS)


def test_nothing_is_predicted_of_what_was_not_measured() -> None:
    assert Home().predict(rhythm(), waiting=True) is None
    few = Away()
    few.answered(10 * MS, 5 * MS, 100)
    assert few.predict(rhythm()) is None


def test_at_home_one_stray_packet_changes_nothing() -> None:
    home = Home()
    for took_ms in (40, 41, 40, 900, 40):
        home.took(took_ms * MS)
    found = home.predict(rhythm(), waiting=False)
    assert found is not None and found.whole_ns == 45 * MS


def test_what_is_neither_computing_nor_the_round_trip_is_sending() -> None:
    found = away(whole_ms=100, compute_ms=25, trip_ms=40).predict(rhythm())
    assert found is not None
    assert round(found.rate_bps or 0) == round(30_000 * 8 / 0.035)
    assert found.whole_ns == (5 + 25 + 35 + 40) * MS


def test_a_link_that_takes_a_packet_no_faster_than_they_come_keeps_up_with_nothing() -> None:
    found = away(whole_ms=400, compute_ms=25, trip_ms=40).predict(rhythm())
    assert found is not None and found.whole_ns > BEHIND_NS
