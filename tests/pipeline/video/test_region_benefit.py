"""Regions are followed as long as they help."""

from __future__ import annotations

from itertools import pairwise

from thalweg.pipeline.video.region_benefit import RegionBenefit

S = 1_000_000_000


def watch(trust: RegionBenefit, with_regions: float, without: float, answers: int, start: int = 0) -> list[bool]:
    """A viewer that is that sure with and without regions, twice a second."""
    followed = []
    for i in range(start, start + answers):
        followed.append(trust.follows(i * S // 2))
        trust.answer(with_regions if followed[-1] else without, followed[-1], i * S // 2)
    return followed


def test_regions_that_help_are_followed() -> None:
    assert all(watch(RegionBenefit(), 0.95, 0.3, 40))


def test_wrong_regions_are_dropped_after_two_unsure_answers() -> None:
    followed = watch(RegionBenefit(), 0.2, 0.95, 8)
    assert followed == [True, True] + [False] * 6


def test_where_neither_can_be_read_each_rest_is_longer() -> None:
    followed = watch(RegionBenefit(rest_s=2.0), 0.4, 0.3, 200)
    tried = [i for i, (a, b) in enumerate(pairwise(followed)) if a and not b]
    gaps = [b - a for a, b in pairwise(tried)]
    assert gaps == sorted(gaps) and gaps[-1] > gaps[0]


def test_where_the_rate_is_too_low_for_either_regions_stay_nearly_always() -> None:
    followed = watch(RegionBenefit(rest_s=2.0), 0.4, 0.2, 120)
    assert sum(followed) > 100


def test_where_even_coding_is_enough_regions_are_not_tried_again() -> None:
    assert sum(watch(RegionBenefit(rest_s=2.0), 0.2, 0.95, 200)) == 2


def test_regions_that_become_right_are_found_when_even_coding_no_longer_suffices() -> None:
    trust = RegionBenefit(rest_s=2.0)
    watch(trust, 0.2, 0.95, 8)
    assert watch(trust, 0.95, 0.3, 40, start=8)[-1]


def test_begun_evenly_regions_are_tried_where_that_cannot_be_read() -> None:
    assert watch(RegionBenefit(begin=False), 0.95, 0.3, 8) == [False, False] + [True] * 6


def test_the_next_question_begins_with_what_was_better_for_the_last() -> None:
    trust = RegionBenefit()
    watch(trust, 0.1, 0.95, 6)
    trust.ask()
    assert not trust.follows(3 * S)


def test_a_question_in_the_middle_of_a_trial_ends_it_without_a_verdict() -> None:
    trust = RegionBenefit()
    watch(trust, 0.1, 0.3, 3)
    assert not trust.follows(3 * S // 2)
    trust.ask()
    assert trust.follows(2 * S)


def test_a_clock_that_goes_back_ends_a_rest_and_nothing_else() -> None:
    trust = RegionBenefit(unsure=1)
    watch(trust, 0.4, 0.3, 3, start=10**6)
    assert trust.follows(0)
    trust.answer(0.3, True, S)
    assert not trust.follows(S)


def test_a_viewer_that_never_answers_leaves_regions_alone() -> None:
    assert RegionBenefit().follows(10**15)
