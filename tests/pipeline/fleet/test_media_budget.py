"""Video is told what the link leaves for it."""

from __future__ import annotations

from thalweg.pipeline.fleet.media_budget import LEAST_BPS, LOOK_NS, MOST_BPS, START_BPS, MediaBudget


def follow(budget: MediaBudget, link_bps: int, seconds: int, *, begin: int = 0) -> list[int]:
    """A sender that does as it is told, over a link that leaves so much for media."""
    waiting, found = 0.0, []
    budget.look(begin * LOOK_NS, 0)
    for second in range(begin + 1, begin + seconds + 1):
        waiting += budget.bps / 8
        sent = min(waiting, link_bps / 8)
        waiting -= sent
        budget.arrived(round(sent))
        found.append(budget.look(second * LOOK_NS, round(waiting)))
    return found


def test_it_finds_what_a_link_leaves_and_stays_near_it() -> None:
    found = follow(MediaBudget(), 400_000, 60)[20:]
    assert min(found) > 0.75 * 400_000 and max(found) < 1.25 * 400_000
    assert sum(found) / len(found) > 0.88 * 400_000


def test_it_follows_a_link_that_becomes_narrow_within_seconds() -> None:
    budget = MediaBudget()
    follow(budget, 2_000_000, 60)
    found = follow(budget, 200_000, 20, begin=60)
    assert max(found[3:]) < 1.2 * 200_000


def test_a_queue_in_the_link_says_that_it_is_too_much_though_nothing_waits_here() -> None:
    budget = MediaBudget()
    budget.look(0, 0)
    budget.arrived(100_000 // 8)
    assert budget.look(LOOK_NS, 0, queued_ns=100_000_000) == 95_000


def test_a_sender_that_uses_little_is_not_promised_more_than_was_seen() -> None:
    budget = MediaBudget(bps=10 * START_BPS)
    budget.look(0, 0)
    for second in range(1, 200):
        budget.arrived(100_000 // 8)
        budget.look(second * LOOK_NS, 0)
    assert budget.bps < 200_000


def test_it_stays_within_bounds_and_waits_for_a_second_between_looks() -> None:
    budget = MediaBudget()
    budget.look(0, 0)
    assert budget.look(LOOK_NS // 2, 10**9) == START_BPS
    assert budget.look(LOOK_NS, 10**9) == LEAST_BPS
    for second in range(2, 200):
        budget.arrived(10**8)
        budget.look(second * LOOK_NS, 0)
    assert budget.bps == MOST_BPS
