"""How sure an answer begins, and from where on it is taken."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.handoff.cascade import CLAUSE, auroc, score, threshold


@pytest.mark.parametrize(
    ("logprobs", "found"),
    [
        ([-0.1, -2.0, -0.3], -2.0),
        ([-0.1] * CLAUSE + [-9.0], -0.1),
        ([], None),
        ([-0.1, math.nan], None),
        ([-0.1, 0.5], None),
        ([-math.inf], None),
    ],
)
def test_the_score_is_the_least_sure_token_of_the_first_clause_or_nothing(
    logprobs: list[float], found: float | None
) -> None:
    assert score(logprobs) == found


@given(st.lists(st.tuples(st.integers(-30, 0).map(float), st.booleans()), max_size=80), st.floats(0.01, 0.6))
def test_what_is_taken_and_wrong_is_no_more_than_the_risk(known: list[tuple[float, bool]], risk: float) -> None:
    lowest = threshold(known, risk)
    wrong = sum(value >= lowest and not right for value, right in known)
    assert wrong == 0 or wrong + 1 <= risk * (len(known) + 1)


def test_the_risk_holds_for_answers_that_were_not_looked_through() -> None:
    rng = random.Random(1)

    def drawn(n: int) -> list[tuple[float, bool]]:
        scores = [-3 * rng.random() for _ in range(n)]
        return [(value, rng.random() < math.exp(value)) for value in scores]

    risks = []
    for _ in range(300):
        lowest = threshold(drawn(100), 0.1)
        risks.append(sum(value >= lowest and not right for value, right in drawn(100)) / 100)
    assert 0.08 <= sum(risks) / len(risks) <= 0.1


def test_where_nothing_is_known_nothing_is_taken() -> None:
    assert threshold([], 0.1) == math.inf


def test_scores_that_say_nothing_are_worth_a_half() -> None:
    assert auroc([(1.0, True), (1.0, False)]) == auroc([(1.0, True)]) == 0.5
    assert auroc([(2.0, True), (1.0, False)]) == 1.0
