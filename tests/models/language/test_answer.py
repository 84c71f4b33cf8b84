"""What goes through to be said: valid, bounded, and never nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.models.language.answer import AnswerFilter, may_think_unmarked
from thalweg.models.language.backend import BackendError, Delta, ErrorKind, Finish, Progress, Reason, Text, Thinking
from thalweg.models.language.surrogates import Halves, repaired


def tell(*deltas: Delta, max_tokens: int = 96) -> list[Delta]:
    answer = AnswerFilter(max_tokens)
    return [told for delta in deltas for told in answer.feed(delta)]


def test_text_and_its_end_go_through() -> None:
    assert tell(Progress("role"), Text("Paris."), Finish()) == [Progress("role"), Text("Paris."), Finish()]


def test_an_emoji_that_comes_in_halves_is_one() -> None:
    assert tell(Text("Hi \ud83d"), Text(""), Text("\ude00."), Finish()) == [Text("Hi "), Text("😀."), Finish()]


def test_half_an_emoji_is_the_sign_for_a_lost_character() -> None:
    assert tell(Text("Hi \ud83d"), Text("x\ude00"), Text("\ud83d"), Finish()) == [
        Text("Hi "), Text("\ufffdx\ufffd"), Text("\ufffd"), Finish()
    ]  # fmt: skip


def test_an_answer_is_cut_where_it_is_longer_than_was_asked_for() -> None:
    told = tell(*[Text("word " * 100)] * 1000, max_tokens=32)
    assert told[-1] == Finish(Reason.CUT)
    assert sum(len(d.text) for d in told if isinstance(d, Text)) == 16 * 32


def test_a_giant_delta_is_cut() -> None:
    assert tell(Text("y" * 10_000_000))[-1] == Finish(Reason.CUT)


def test_thoughts_without_an_end_are_given_up() -> None:
    with pytest.raises(BackendError, match="thought on and on"):
        tell(*[Thinking("hm " * 1000)] * 1000)


def test_thoughts_without_an_end_in_the_text_are_given_up() -> None:
    with pytest.raises(BackendError, match="thought on and on"):
        tell(Text("<think>"), *[Text("hm " * 1000)] * 1000)


@pytest.mark.parametrize(
    ("deltas", "said", "kind"),
    [
        ([Finish()], "gave an empty answer", ErrorKind.NO_ANSWER),
        ([Text(" \n"), Finish()], "gave an empty answer", ErrorKind.NO_ANSWER),
        ([Thinking("hm"), Finish(Reason.LENGTH)], "spent all of its 96 tokens on thinking", ErrorKind.NO_ANSWER),
        ([Text("<think>hm"), Finish(Reason.LENGTH)], "spent all of its 96 tokens on thinking", ErrorKind.NO_ANSWER),
        ([Thinking("hm"), Finish()], "thought and then said nothing", ErrorKind.NO_ANSWER),
        ([Finish(Reason.TOOL)], "asked for a tool", ErrorKind.NO_ANSWER),
        ([Finish(Reason.FILTER)], "content filter", ErrorKind.FILTERED),
    ],
)
def test_an_answer_without_a_word_is_a_failure_that_says_why(deltas: list[Delta], said: str, kind: ErrorKind) -> None:
    with pytest.raises(BackendError, match=said) as caught:
        tell(*deltas)
    assert caught.value.kind is kind


def test_what_was_held_for_a_mark_is_said_at_the_end() -> None:
    assert tell(Text("a <thi"), Finish()) == [Text("a "), Text("<thi"), Finish()]


def test_nothing_comes_behind_the_end() -> None:
    assert tell(Text("a"), Finish(), Text("b"), Finish()) == [Text("a"), Finish()]


@pytest.mark.parametrize(
    "name", ["deepseek-r1:7b", "DeepSeek-R1-Distill-Qwen-1.5B", "qwq-32b", "qwen3-4b-thinking", "phi-4-reasoning"]
)
def test_models_that_open_their_thoughts_without_a_mark_are_known_by_name(name: str) -> None:
    assert may_think_unmarked(name)


@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "qwen3-8b", "gpt-4o", "mistral-r12", "llama-3.2-1b"])
def test_others_are_not(name: str) -> None:
    assert not may_think_unmarked(name)


@given(st.text(alphabet=st.characters(exclude_categories=())), st.integers(1, 4))
def test_whatever_is_cut_apart_comes_out_valid_and_the_same(text: str, size: int) -> None:
    halves = Halves()
    joined = "".join(halves.feed(text[i : i + size]) for i in range(0, len(text), size)) + halves.end()
    joined.encode()
    assert joined == repaired(text)
