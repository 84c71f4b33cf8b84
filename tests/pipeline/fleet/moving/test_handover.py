"""What was lent is settled once, whatever is lost in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.fleet.moving.handover import (
    TRANSITIONS,
    UNANSWERED_AT_MOST,
    UNSETTLED_AT_MOST,
    Again,
    HandoverError,
    Ledger,
    Whereabouts,
)


def away(*, stateful: bool, packets: str = "") -> Ledger[str]:
    ledger: Ledger[str] = Ledger(stateful=stateful)
    ledger.lend(b"begin")
    for packet in packets:
        ledger.give(packet)
    return ledger


def test_an_answer_is_passed_on_once() -> None:
    ledger = away(stateful=True, packets="ab")
    assert ledger.answered(1, 0, None) == "a"
    assert ledger.answered(1, 0, None) is None
    assert ledger.answered(1, 7, None) is None


def test_what_no_state_covers_is_done_again_silently_where_it_was_answered() -> None:
    ledger = away(stateful=True, packets="abcd")
    ledger.answered(1, 0, b"after a")
    ledger.answered(1, 1, None)
    assert ledger.home() == (b"after a", [Again("b", True), Again("c", False), Again("d", False)])


def test_of_a_stage_without_state_an_answer_settles_a_packet() -> None:
    ledger = away(stateful=False, packets="abc")
    ledger.answered(1, 1, None)
    assert ledger.home()[1] == [Again("a", False), Again("c", False)]


def test_an_answer_of_a_generation_that_is_over_is_not_believed() -> None:
    ledger = away(stateful=True, packets="a")
    ledger.home()
    assert ledger.answered(1, 0, b"late") is None
    assert ledger.lend(b"again") == 2
    ledger.give("b")
    assert ledger.answered(1, 1, b"late") is None
    assert ledger.home() == (b"again", [Again("b", False)])


def test_there_is_room_for_a_few_that_are_unanswered_and_more_that_are_unsettled() -> None:
    ledger = away(stateful=True, packets="a" * UNANSWERED_AT_MOST)
    assert not ledger.has_room and not ledger.stuck
    for number in range(UNSETTLED_AT_MOST):
        if number >= UNANSWERED_AT_MOST:
            ledger.give("b")
        ledger.answered(1, number, None)
    assert not ledger.has_room and ledger.stuck
    ledger.answered(1, UNSETTLED_AT_MOST - 1, b"state")
    assert ledger.has_room and not ledger.stuck


@pytest.mark.parametrize("state", Whereabouts)
@pytest.mark.parametrize("event", ["lend", "give", "home"])
def test_the_table_is_what_happens(state: Whereabouts, event: str) -> None:
    ledger = away(stateful=True) if state is Whereabouts.AWAY else Ledger[str](stateful=True)
    do = {"lend": lambda: ledger.lend(None), "give": lambda: ledger.give("a"), "home": ledger.home}[event]
    if (state, event) not in TRANSITIONS:
        with pytest.raises(HandoverError):
            do()
        return
    do()
    assert ledger.whereabouts is TRANSITIONS[state, event]


@given(st.lists(st.sampled_from(["give", "answer", "state", "lost"]), max_size=60))
def test_every_packet_comes_out_once_and_the_state_is_that_of_all_before_it(events: list[str]) -> None:
    """A stage that joins what it is given: its state is the text so far."""
    ledger: Ledger[str] = Ledger(stateful=True)
    there, here, sent, out, queue = "", "", 0, [], []
    generation = ledger.lend(b"")
    for event in events:
        if event == "give" and ledger.has_room:
            packet = chr(97 + sent % 26)
            sent += 1
            queue.append((ledger.give(packet), packet))
        elif event in ("answer", "state") and queue:
            number, packet = queue.pop(0)
            there += packet
            answered = ledger.answered(generation, number, there.encode() if event == "state" else None)
            out += [] if answered is None else [there]
        elif event == "lost":
            state, again = ledger.home()
            assert state is not None
            here = state.decode()
            for each in again:
                here += each.packet
                out += [] if each.silent else [here]
            queue.clear()
            there = here
            generation = ledger.lend(here.encode())
    while queue:
        number, packet = queue.pop(0)
        there += packet
        out += [there] if ledger.answered(generation, number, None) is not None else []
    whole = "".join(chr(97 + n % 26) for n in range(sent))
    assert out == [whole[: n + 1] for n in range(sent)]


def test_parts_of_a_packet_are_passed_on_until_it_is_answered_and_known_where_it_is_not() -> None:
    ledger = away(stateful=True, packets="ab")
    assert ledger.part(1, 0, ["x"]) == "a" and ledger.part(1, 0, ["y"]) == "a"
    assert ledger.answered(1, 0, None, ["z"]) == "a"
    assert ledger.part(1, 0, ["late"]) is None and ledger.part(1, 7, ["x"]) is None
    ledger.part(1, 1, ["v"])
    assert ledger.home() == (b"begin", [Again("a", True), Again("b", False, ("v",))])
    assert ledger.part(1, 1, ["late"]) is None


def test_what_was_said_is_kept_until_a_state_covers_it_where_the_stage_goes_on_from_it() -> None:
    ledger: Ledger[str] = Ledger(stateful=True, keeps=True)
    ledger.lend(b"begin")
    for packet in "abc":
        ledger.give(packet)
    ledger.answered(1, 0, b"after a", ["w"])
    ledger.part(1, 1, ["x"])
    ledger.answered(1, 1, None, ["y"])
    ledger.answered(1, 1, None, ["y"])
    ledger.part(1, 2, ["z"])
    assert ledger.home() == (b"after a", [Again("b", True, ("x", "y")), Again("c", False, ("z",))])
