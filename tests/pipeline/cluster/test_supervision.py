"""The supervisor's decisions, event by event."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.cluster.supervision import (
    SET_ASIDE,
    GiveUp,
    InHand,
    Restart,
    RestartPolicy,
    RestartWhen,
    SupervisionState,
    Supervisor,
)

S = 1_000_000_000
HAND = InHand(stage="sum", stream="a.out", number=7, seq=9, epoch=3, time_ns=5, payload="Token")


def supervisor(when: RestartWhen = RestartWhen.ON_FAILURE, **policy: int) -> Supervisor:
    return Supervisor(RestartPolicy(when=when, **policy))


def die(it: Supervisor, at_ns: int = 0, *, cleanly: bool = False, hand: InHand | None = None) -> Restart | GiveUp:
    """Run for a moment, then die."""
    if it.state is SupervisionState.WAITING:
        it.starting()
    it.started(at_ns)
    return it.died(at_ns, cleanly=cleanly, in_hand=hand)


@pytest.mark.parametrize(
    ("when", "cleanly", "comes_back"),
    [
        (RestartWhen.NEVER, False, False),
        (RestartWhen.NEVER, True, False),
        (RestartWhen.ON_FAILURE, False, True),
        (RestartWhen.ON_FAILURE, True, False),
        (RestartWhen.ALWAYS, False, True),
        (RestartWhen.ALWAYS, True, True),
    ],
)
def test_the_policy_decides_who_comes_back(when: RestartWhen, cleanly: bool, comes_back: bool) -> None:
    it = supervisor(when)
    decision = die(it, cleanly=cleanly)
    assert isinstance(decision, Restart) is comes_back
    assert it.ended is not comes_back


def test_the_first_restart_comes_at_once_and_the_pauses_double() -> None:
    it = supervisor(restarts=9, backoff_ns=S)
    decisions = [die(it) for _ in range(4)]
    assert [decision.at_ns for decision in decisions if isinstance(decision, Restart)] == [0, S, 2 * S, 4 * S]


def test_too_many_deaths_in_the_window_are_the_end() -> None:
    it = supervisor(restarts=2, window_ns=10 * S)
    assert isinstance(die(it, 0), Restart)
    assert isinstance(die(it, 1 * S), Restart)
    last = die(it, 2 * S)
    assert isinstance(last, GiveUp) and "it died 3 times within 10 s" in last.reason
    assert it.state is SupervisionState.ENDED


def test_deaths_before_the_window_are_forgiven() -> None:
    it = supervisor(restarts=1, window_ns=10 * S)
    assert all(isinstance(die(it, i * 11 * S), Restart) for i in range(20))


def test_one_that_could_not_be_started_again_counts_as_a_death() -> None:
    it = supervisor(restarts=2)
    die(it)
    it.starting()
    assert isinstance(it.died(0), Restart)
    it.starting()
    assert isinstance(it.died(0), GiveUp)


def test_an_answer_in_time_keeps_it_alive_and_silence_does_not() -> None:
    it = supervisor(heartbeat_ns=5 * S)
    it.started(0)
    it.answered(4 * S, progress=False)
    assert not it.overdue(9 * S)
    assert it.overdue(9 * S + 1)


def test_a_restart_that_was_asked_for_ignores_the_policy_and_is_not_counted() -> None:
    it = supervisor(RestartWhen.NEVER)
    it.started(0)
    it.ask_restart()
    asked = it.died(0)
    assert isinstance(asked, Restart) and asked.attempt == 0
    assert isinstance(die(it), GiveUp)


def test_a_restart_asked_for_twice_is_one_and_says_nothing_of_later_deaths() -> None:
    it = supervisor(RestartWhen.NEVER)
    it.started(0)
    assert it.ask_restart() and it.ask_restart()
    assert isinstance(it.died(1), Restart)
    assert not it.ask_restart()
    it.starting()
    assert not it.ask_restart()
    it.started(2)
    assert isinstance(it.died(10**15), GiveUp)


def test_a_restart_that_was_asked_for_holds_for_no_incarnation_but_that_one() -> None:
    it = supervisor(RestartWhen.NEVER)
    it.started(0)
    it.ask_restart()
    it.started(1)
    assert isinstance(it.died(2), GiveUp)


def test_only_so_many_packets_that_were_set_aside_are_remembered() -> None:
    it = supervisor(poison_tries=2, restarts=10**6)
    for i in range(SET_ASIDE + 10):
        die(it, hand=replace(HAND, number=i))
        last = die(it, hand=replace(HAND, number=i))
    assert isinstance(last, Restart) and len(last.set_aside) == SET_ASIDE
    assert last.set_aside[-1].number == SET_ASIDE + 9


def test_the_packet_in_hand_at_the_third_death_without_progress_is_set_aside() -> None:
    it = supervisor()
    first, second, third = die(it), die(it), die(it, hand=HAND)
    assert isinstance(first, Restart) and not first.watched
    assert isinstance(second, Restart) and second.watched
    assert isinstance(third, Restart) and third.poison == HAND and third.set_aside == (HAND,)
    assert third.at_ns == 0 and not third.watched


def test_progress_in_between_clears_every_packet_of_suspicion() -> None:
    it = supervisor(restarts=100)
    for _ in range(20):
        if it.state is SupervisionState.WAITING:
            it.starting()
        it.started(0)
        it.answered(0, progress=True)
        decision = it.died(0, in_hand=HAND)
        assert isinstance(decision, Restart) and decision.poison is None and not decision.watched


def test_what_was_set_aside_once_stays_aside() -> None:
    it = supervisor(restarts=100)
    other = InHand(stage="sum", stream="a.out", number=8, seq=10, epoch=3, time_ns=6, payload="Token")
    decisions = [die(it, hand=hand) for hand in (None, None, HAND, None, None, other)]
    assert isinstance(decisions[-1], Restart) and decisions[-1].set_aside == (HAND, other)


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.booleans(), st.booleans()), max_size=40))
def test_whatever_happens_it_never_dies_more_often_in_a_window_than_allowed(
    deaths: list[tuple[int, bool, bool, bool]],
) -> None:
    it = supervisor(restarts=3, window_ns=30 * S)
    now, counted = 0, []
    for pause, progress, cleanly, holding in deaths:
        now += pause * S
        it.started(now)
        it.answered(now, progress=progress)
        decision = it.died(now, cleanly=cleanly, in_hand=HAND if holding else None)
        if isinstance(decision, GiveUp):
            assert it.ended
            break
        assert decision.at_ns >= now and not cleanly
        if decision.poison is None:
            counted.append(now)
        assert len([at for at in counted if at >= now - 30 * S]) <= 3
        it.starting()
