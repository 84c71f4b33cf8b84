"""When a second backend is asked beside a slow one, and what hedges may cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.handoff.answering import Answering, AskBackend, ReplyLimits
from thalweg.pipeline.handoff.hedging import ADVANCE, HedgeAllowance, hedge_at_ms


@pytest.mark.parametrize(
    ("first_p95", "other_clause", "within", "at"),
    [
        (300, 400, 900, 300),  # later than in 95 % of turns
        (800, 400, 900, 500),  # as long as the other one can still be in time
        (300, 1000, 900, 300),  # it cannot: it is late anyhow, and not asked at once
    ],
)
def test_a_second_is_asked_when_the_first_is_late_and_while_the_second_can_be_in_time(
    first_p95: float, other_clause: float, within: float, at: float
) -> None:
    assert hedge_at_ms(first_p95, other_clause, within) == at


@given(st.lists(st.tuples(st.integers(1, 2000), st.booleans()), max_size=200), st.floats(0.01, 0.5))
def test_hedges_take_no_more_than_their_share_of_what_turns_take(turns: list[tuple[int, bool]], share: float) -> None:
    allowance = HedgeAllowance(share)
    turned = hedged = 0
    for tokens, slow in turns:
        if slow and allowance.may(tokens):
            allowance.spend(tokens)
            hedged += tokens
        allowance.turn(tokens)
        turned += tokens
        assert hedged <= ADVANCE + share * turned
    assert allowance.left >= 0


def test_who_does_things_besides_answering_is_asked_alone() -> None:
    for order in (("robot", "cloud"), ("cloud", "robot")):
        reply = Answering(order, ReplyLimits(hedge_ms=300, first_ms=1000), alone=("robot",))
        reply.begin(0)
        assert reply.passed(300) == []
        assert reply.passed(1000)[-1] == AskBackend(order[1])


def test_no_more_are_asked_at_once_than_may_be() -> None:
    reply = Answering(("a", "b", "c"), ReplyLimits(hedge_ms=100, first_ms=1000, hedges=1))
    reply.begin(0)
    assert reply.passed(100) == [AskBackend("b")]
    assert reply.passed(900) == []


def test_one_that_is_under_way_and_stands_in_the_route_twice_is_not_asked_beside_itself() -> None:
    reply = Answering(("small", "large", "small"), ReplyLimits(hedge_ms=100, first_ms=1000))
    reply.begin(0)
    assert reply.passed(100) == [AskBackend("large")]
    assert reply.passed(200) == []
    assert reply.failed("small", "unsure", 300) == []
    assert reply.failed("large", "reset", 310) == [AskBackend("small")]


def test_with_no_time_between_them_both_are_asked_at_once() -> None:
    reply = Answering(("a", "b"), ReplyLimits(hedge_ms=0))
    assert reply.begin(0) == [AskBackend("a")]
    assert reply.due_ms(0) == 0
    assert reply.passed(0) == [AskBackend("b")]
