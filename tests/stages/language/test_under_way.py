"""What goes on with a conversation on another machine: the turns that are over, and the question under way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from thalweg.models.language.backend import Message
from thalweg.stages.language.conversation import Exchange
from thalweg.stages.language.reply import Reply
from thalweg.stages.language.under_way import UnderWay, unheard

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
