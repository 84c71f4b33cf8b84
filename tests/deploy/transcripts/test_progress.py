"""Whoever waits is told how far it is."""

from __future__ import annotations

from thalweg.deploy.transcripts.progress import clock, progress


def test_time_left_follows_from_what_was_done_since_it_began() -> None:
    assert (
        progress(900.0, 0.25, 900.0, 0.0, 60.0) == "15:00 of about 1:00:00, 25%, 15 times as fast as spoken, 3:00 left"
    )
    assert progress(1_800.0, 0.5, 900.0, 0.25, 60.0).endswith("15 times as fast as spoken, 2:00 left")


def test_nothing_is_made_up_where_the_length_is_not_known() -> None:
    assert progress(65.0, None, 65.0, 0.0, 10.0) == "1:05, 6 times as fast as spoken"
    assert progress(0.0, 0.0, 0.0, 0.0, 1.0) == "0:00, beginning"


def test_clocks() -> None:
    assert [clock(seconds) for seconds in (0.4, 65, 3_599.6, 7_384)] == ["0:00", "1:05", "1:00:00", "2:03:04"]
