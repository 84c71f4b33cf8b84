"""Regions are followed as long as they help."""

from __future__ import annotations

from itertools import pairwise

from thalweg.pipeline.trust import Trust

S = 1_000_000_000


def watch(trust: Trust, with_regions: float, without: float, answers: int, start: int = 0) -> list[bool]:
    """A viewer that is that sure with and without regions, twice a second."""
    followed = []
    for i in range(start, start + answers):
        followed.append(trust.follows(i * S // 2))
        trust.answer(with_regions if followed[-1] else without, followed[-1], i * S // 2)
    return followed


def test_regions_that_help_are_followed() -> None:
    assert all(watch(Trust(), 0.95, 0.3, 40))


def test_wrong_regions_are_dropped_after_two_unsure_answers() -> None:
    followed = watch(Trust(), 0.2, 0.95, 8)
    assert followed == [True, True] + [False] * 6


def test_after_a_rest_they_are_tried_again_and_each_rest_is_longer() -> None:
    followed = watch(Trust(rest_s=2.0), 0.2, 0.95, 60)
    tried = [i for i, (a, b) in enumerate(zip([False, *followed], followed, strict=False)) if b and not a]
    gaps = [b - a for a, b in pairwise(tried)]
    assert gaps == sorted(gaps) and gaps[-1] > gaps[0]
    assert sum(followed) <= 12


def test_where_the_rate_is_too_low_for_either_regions_stay_nearly_always() -> None:
    followed = watch(Trust(rest_s=2.0), 0.4, 0.2, 120)
    assert sum(followed) > 100


def test_a_new_question_gives_new_trust() -> None:
    trust = Trust()
    watch(trust, 0.1, 0.95, 6)
    trust.ask()
    assert trust.follows(3 * S)


def test_a_clock_that_jumps_ends_a_rest_and_nothing_else() -> None:
    trust = Trust()
    watch(trust, 0.1, 0.95, 6, start=10**6)
    assert trust.follows(0)


def test_a_viewer_that_never_answers_leaves_regions_alone() -> None:
    assert Trust().follows(10**15)
