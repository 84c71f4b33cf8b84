"""Each miss of a deadline has a cause."""

from __future__ import annotations

import pytest

from thalweg.pipeline.fleet.causes import COMPUTE, LINK, QUEUE, Causes, Spent

_MS = 1_000_000


def spent(queue_ms: int, compute_ms: int, link_ms: int, count: int) -> dict[str, Spent]:
    return {
        "in": Spent(QUEUE, queue_ms * _MS * count, count),
        "eye": Spent(COMPUTE, compute_ms * _MS * count, count),
        "eye link": Spent(LINK, link_ms * _MS * count, count),
    }


@pytest.mark.parametrize(
    ("means", "cause"), [((50, 20, 10), QUEUE), ((5, 20, 10), COMPUTE), ((5, 20, 30), LINK), ((0, 0, 0), QUEUE)]
)
def test_what_was_late_is_blamed_on_what_took_longest_since_the_last_look(
    means: tuple[int, int, int], cause: str
) -> None:
    causes = Causes()
    causes.look(0, 0, spent(0, 90, 0, 10))
    more = {name: Spent(new.cause, old.total_ns + new.total_ns, 20) for (name, old), new in zip(
        spent(0, 90, 0, 10).items(), spent(*means, 10).values(), strict=True)}  # fmt: skip
    causes.look(3, 0, more)
    assert +causes.counts == {cause: 3}


def test_what_was_dropped_as_too_late_has_waited() -> None:
    causes = Causes()
    causes.look(0, 4, spent(0, 90, 0, 10))
    causes.look(0, 6, spent(0, 90, 0, 10))
    assert +causes.counts == {QUEUE: 6}


def test_another_pipeline_begins_anew() -> None:
    causes = Causes()
    causes.look(5, 7, spent(9, 1, 0, 10))
    causes.look(0, 1, spent(0, 1, 0, 2))
    assert +causes.counts == {QUEUE: 1}
