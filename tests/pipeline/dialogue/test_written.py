"""Questions in writing: each is answered once, whatever is lost on the way."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.dialogue.events import Caption, Say, State
from thalweg.pipeline.dialogue.written import MOST_KEPT, MOST_KNOWN, Questions, Written, WrittenMemory

LISTENING = {"type": "state", "state": "listening"}


def texts(controls: list[dict[str, Any]]) -> list[str]:
    return [control["text"] for control in controls]


def taken(written: Written, control: dict[str, Any]) -> bool:
    return written.take(Say.model_validate(control))


def test_a_question_that_the_server_does_not_know_is_sent_again_and_one_that_it_knows_is_not() -> None:
    questions = Questions()
    known = questions.ask("known")
    questions.ask("lost")
    assert texts(questions.to_send()) == ["known", "lost"]
    assert questions.to_send() == []
    questions.event({"type": "caption", "id": known})
    assert texts(questions.hello([known])) == ["lost"]


def test_a_question_whose_caption_came_is_sent_again_to_a_server_that_has_lost_it() -> None:
    questions = Questions()
    name = questions.ask("green")
    questions.to_send()
    questions.event({"type": "caption", "id": name})
    assert texts(questions.hello([])) == ["green"]


def test_a_question_that_was_answered_is_never_sent_again() -> None:
    questions = Questions()
    name = questions.ask("green")
    questions.to_send()
    questions.event(LISTENING)  # the turn before is over
    questions.event({"type": "caption", "id": name})
    questions.event(LISTENING)
    assert questions.hello([]) == []


def test_a_server_that_names_no_questions_is_sent_nothing_twice() -> None:
    questions = Questions()
    questions.ask("sent")
    questions.to_send()
    questions.ask("kept")
    assert texts(questions.hello(None)) == ["kept"]
    assert questions.hello(None) == []


def test_a_client_keeps_few_questions_and_none_of_a_conversation_that_is_over() -> None:
    questions = Questions()
    for number in range(MOST_KEPT + 3):
        questions.ask(str(number))
    assert texts(questions.hello([])) == [str(number) for number in range(3, MOST_KEPT + 3)]
    questions.event({"type": "bye"})
    assert questions.hello([]) == []


def test_a_question_waits_on_the_server_until_its_turn_is_over() -> None:
    written = Written()
    assert written.take(Say(text="green", id="a"))
    assert not written.take(Say(text="green", id="a"))
    written.told(State(state="listening", turn=3))
    assert (waiting := written.remembered().waiting) is not None and waiting.turn == 0
    written.told(Caption(turn=4, text="green", stable=5, final=True, id="a"))
    assert (waiting := written.remembered().waiting) is not None and waiting.turn == 4
    written.told(State(state="listening", turn=4))
    assert written.remembered() == WrittenMemory(known=("a",))


def test_a_question_without_an_id_is_taken_as_often_as_it_comes() -> None:
    written = Written()
    assert written.take(Say(text="green")) and written.take(Say(text="green"))
    assert written.remembered() == WrittenMemory()


def test_what_a_server_remembers_is_bounded() -> None:
    written = Written()
    for number in range(3 * MOST_KNOWN):
        written.take(Say(text="x", id=str(number)))
    assert len(written.remembered().known) == MOST_KNOWN
    written.recall([str(number) for number in range(MOST_KNOWN)], None)
    assert len(written.remembered().known) == MOST_KNOWN


@given(st.lists(st.sampled_from(["ask", "drop", "deliver", "remember", "die", "reconnect"]), max_size=30))
def test_in_any_order_of_losses_every_question_is_known_once_in_the_end(script: list[str]) -> None:
    questions, written, kept = Questions(), Written(), WrittenMemory()
    under_way: list[dict[str, Any]] = []
    asked = 0
    taken_here: list[str] = []
    remembered: list[str] = []
    for step in script:
        if step == "ask" and asked < MOST_KEPT:
            questions.ask(str(asked))
            asked += 1
            under_way += questions.to_send()
        elif step == "drop":
            under_way.clear()
        elif step == "deliver" and under_way:
            control = under_way.pop(0)
            taken_here += [control["text"]] if taken(written, control) else []
        elif step == "remember":
            kept, remembered = written.remembered(), list(taken_here)
        elif step == "die":
            written, taken_here = Written(), list(remembered)
            written.recall(kept.known, None)
            under_way = questions.hello(written.known)
        elif step == "reconnect":
            under_way = questions.hello(written.known)
    for control in questions.hello(written.known):
        taken_here += [control["text"]] if taken(written, control) else []
    assert sorted(taken_here, key=int) == [str(number) for number in range(asked)]
