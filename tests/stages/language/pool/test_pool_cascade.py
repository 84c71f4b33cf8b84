"""A small model answers where it is sure, and nobody hears it where it is not."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator

import pytest

from tests.stages.language.pool.test_pool import ANSWER, Scripted, ask, pool
from thalweg.models.language.backend import Delta, Request, Text
from thalweg.stages.language.pool.confidence import accepted_from, known
from thalweg.stages.language.pool.pool import Pool

SMALL = "The capital of France is Lyon, on the river Rhone."


class Sure(Scripted):
    """Says how sure it is of each piece."""

    def __init__(self, logprob: float | None, **settings: int) -> None:
        super().__init__(SMALL, **settings)
        self.logprob = logprob

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        async for delta in super().reply(request):
            if isinstance(delta, Text) and self.logprob is not None and request.logprobs:
                yield Text(delta.text, logprobs=(self.logprob,))
            else:
                yield delta


def cascade(edge: Scripted, cloud: Scripted) -> Pool:
    tested = pool({"cascade": 0.1, "first_clause_within": "5s"}, edge=edge, cloud=cloud)
    tested._members["edge"].accepted_from = -1.0
    return tested


def test_a_small_model_that_is_sure_answers_and_the_large_one_is_not_asked() -> None:
    cloud = Scripted()
    tested = cascade(Sure(-0.2), cloud)
    assert ask(tested) == [SMALL]
    assert cloud.heard == []
    assert tested.routed is not None
    assert (tested.routed.backend, tested.routed.cost) == ("edge", 0)
    assert tested.routed.reason.endswith("; edge was sure enough")


@pytest.mark.parametrize("logprob", [-1.5, None, math.nan, -math.inf, 0.5])
def test_of_one_that_is_not_sure_or_cannot_say_no_word_is_heard(logprob: float | None) -> None:
    tested = cascade(Sure(logprob), Scripted())
    assert ask(tested, "one", "two", "three") == [ANSWER] * 3
    assert tested.counts["unsure_edge"] == 3
    assert tested.routed is not None and "; edge " in tested.routed.reason
    assert tested._members["edge"].breaker.allows(0)


def test_where_the_large_one_dies_the_unsure_one_answers_after_all() -> None:
    tested = cascade(Sure(-1.5), Scripted(dies_after=0))
    assert ask(tested) == [SMALL]


def test_the_large_one_is_helped_in_mid_answer_by_the_unsure_one() -> None:
    tested = cascade(Sure(-1.5, first_s=0), Scripted(dies_after=6))
    (said,) = ask(tested)
    assert said.startswith("The capital of France is Paris,")


def test_where_there_is_no_time_for_both_the_large_one_is_asked_at_once() -> None:
    edge = Sure(-0.2)
    tested = pool({"cascade": 0.1, "first_clause_within": "900ms"}, edge=edge, cloud=Scripted())
    tested._members["edge"].accepted_from = -1.0
    assert ask(tested) == [ANSWER]
    assert edge.heard == []


def test_of_the_model_that_was_looked_through_more_is_taken_for_more_risk() -> None:
    (model,) = known()
    some, more = accepted_from(model, 0.05), accepted_from(model, 0.2)
    assert some is not None and more is not None and more < some < 0
    assert accepted_from("another", 0.1) is None
