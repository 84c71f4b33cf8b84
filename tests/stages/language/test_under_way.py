"""What goes on with a conversation on another machine: the turns that are over, and the question under way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from thalweg.models.language.backend import Message
from thalweg.pipeline.signal import Interrupt
from thalweg.stages.language.chat import Chat
from thalweg.stages.language.conversation import Exchange
from thalweg.stages.language.reply import Reply
from thalweg.stages.language.under_way import MOST_TEXT, UnderWay, unheard

WORDS = st.lists(st.text("abc", min_size=1, max_size=3), max_size=12)


def reply(epoch: int, said: str, whole: bool = True) -> Reply:
    return Reply(epoch=epoch, messages=[Message("user", "why?")], pieces=[said], whole=whole)


def carried(under_way: UnderWay, past: list[Exchange], heard: dict[str, Any] | None) -> tuple[UnderWay, list[Exchange]]:
    other = UnderWay()
    return other, other.recall(under_way.remembered(past) | {"heard": heard}).exchanges()


def test_of_an_answer_that_was_made_the_rest_is_known_elsewhere_and_its_turn_is_not_over() -> None:
    here = UnderWay()
    here.begun(reply(5, "It is so because of rain."))
    past = [Exchange(3, "a", "b"), Exchange(5, "why?", "It is so because of rain.")]
    there, exchanges = carried(here, past, {"turn": 5, "text": "It is"})
    assert exchanges == [Exchange(3, "a", "b")]
    assert there.rest("why?") == ("It is so because of rain.", "so because of rain.")
    assert there.rest("what?") is None


def test_of_a_whole_answer_whose_question_is_not_put_again_what_was_heard_is_remembered() -> None:
    here = UnderWay()
    here.begun(reply(5, "It is so."))
    there, _ = carried(here, [], {"turn": 5, "text": "It is"})
    assert there.passed_over("why?") is None
    assert there.passed_over("what?") == Exchange(5, "why?", "It is")
    there, _ = carried(here, [], {"turn": 4, "text": "Yes"})
    assert there.passed_over("what?") == Exchange(5, "why?", "It is so.")
    there.begun(reply(6, "That."))
    assert there.passed_over("where?") is None, "once"


def test_an_answer_that_was_not_made_to_its_end_is_made_anew() -> None:
    here = UnderWay()
    here.begun(reply(5, "It is", whole=False))
    there, _ = carried(here, [], {"turn": 5, "text": "It"})
    assert there.rest("why?") is None
    assert there.remembered([])["asked"]["text"] == "why?", "until it is asked again, it stays under way"


def test_what_was_heard_of_another_answer_takes_nothing_from_this_one() -> None:
    here = UnderWay()
    here.begun(reply(5, "It is so."))
    there, _ = carried(here, [], {"turn": 4, "text": "Yes, and"})
    assert there.rest("why?") == ("It is so.", "It is so.")


def test_an_answer_that_is_over_for_the_person_is_under_way_no_more() -> None:
    here = UnderWay()
    here.begun(reply(5, "It is so."))
    here.over(4)
    assert here.remembered([])["asked"] is not None
    here.over(5)
    assert here.remembered([])["asked"] is None


@given(WORDS, WORDS)
def test_what_was_heard_and_what_was_not_make_the_whole(heard: list[str], rest: list[str]) -> None:
    assert unheard(" ".join([*heard, *rest]), " ".join(heard)).split() == rest


@pytest.mark.parametrize(
    "wrong",
    [
        {"past": 3},
        {"past": [{"turn": 1, "asked": 2, "said": "x"}]},
        {"past": [{"turn": 1, "asked": "x" * 30_000, "said": "x"}]},
        {"asked": {"turn": "now", "text": "x"}},
    ],
)
def test_a_memory_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        UnderWay().recall(wrong)


def test_what_is_longer_than_is_taken_is_cut_here_and_loses_nobody_the_rest() -> None:
    here = UnderWay()
    here.begun(reply(5, "x" * (MOST_TEXT + 1)))
    there, exchanges = carried(
        here, [Exchange(3, "a" * (MOST_TEXT + 1), "b" * (MOST_TEXT + 1)), Exchange(4, "c", "d")], None
    )
    assert [(len(each.asked), len(each.said)) for each in exchanges] == [(MOST_TEXT, MOST_TEXT), (1, 1)]
    assert there.rest("why?") is None, "made anew"


def test_a_memory_that_cannot_be_read_is_complained_of_without_what_people_said() -> None:
    with pytest.raises(ValidationError) as refused:
        UnderWay().recall({"past": [{"turn": 1, "asked": "my secret", "said": 7}], "asked": ["another secret"]})
    assert "secret" not in str(refused.value)


def test_a_question_that_was_stopped_before_a_word_was_heard_is_not_put_again_elsewhere() -> None:
    chat = Chat(url="http://127.0.0.1:1", model="m")
    ctx: Any = None
    chat._under_way.begun(reply(5, ""))
    chat.on_signal(Interrupt(origin="turns", epoch=5), ctx)
    assert chat.remembered()["asked"] is not None, "its own beginning"
    chat.on_signal(Interrupt(origin="turns", epoch=6), ctx)
    assert chat.remembered()["asked"] is None
