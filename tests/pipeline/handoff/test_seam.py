"""Where one backend breaks off and another goes on: every kind of beginning, split in every way."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.handoff.seam import Seam, WordGate, last_sentence

SAID = "The capital of France is Paris, which lies on the "
REST = "river Seine and has two million people."


def through(said: str, text: str, cuts: list[int]) -> str:
    seam = Seam(said)
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    parts = [text[a:b] for a, b in pairwise(places)]
    return "".join(seam.put(part) for part in parts) + seam.finish()


@pytest.mark.parametrize(
    "text",
    [
        REST,
        "on the " + REST,
        "which lies on the " + REST,
        "Which lies, on the " + REST,
        SAID + REST,
        "the capital of france is Paris which lies on the " + REST,
    ],
    ids=[
        "goes on",
        "repeats two",
        "repeats four",
        "repeats in other case",
        "started over",
        "started over in other case",
    ],
)
@given(cuts=st.lists(st.integers(0, 120), max_size=12))
def test_no_word_comes_twice_and_none_is_lost_however_the_text_is_cut(text: str, cuts: list[int]) -> None:
    assert through(SAID, text, cuts).strip() == REST


def test_an_answer_that_started_over_in_other_words_is_joined_where_its_words_meet_what_was_said() -> None:
    text = "The capital of France is of course the city of Paris, which lies on the river Seine."
    assert through(SAID, text, []).strip() == "river Seine."


def test_an_answer_that_never_meets_what_was_said_goes_on_behind_as_many_words() -> None:
    said = "One two three four five "
    assert through(said, "One two three and then something else entirely.", []).strip() != ""


def test_with_nothing_said_everything_passes_at_once() -> None:
    assert Seam("").put("Hello") == "Hello"


@given(st.lists(st.text(alphabet="ab c,.\n", max_size=8), max_size=20))
def test_a_gate_lets_out_whole_words_and_all_of_them_in_the_end(parts: list[str]) -> None:
    gate = WordGate()
    for part in parts:
        gate.put(part)
        assert gate.said == "" or gate.said[-1].isspace()
    gate.finish()
    assert gate.said == "".join(parts)


def test_a_word_that_was_not_finished_when_its_backend_broke_off_is_never_said() -> None:
    gate = WordGate()
    gate.put("It is in Par")
    gate.drop()
    gate.put("Paris.")
    gate.finish()
    assert gate.said == "It is in Paris."


HAN, HAN_REST = "法国的首都是巴黎，", "它位于塞纳河畔。"


@pytest.mark.parametrize("text", [HAN_REST, "是巴黎，" + HAN_REST, HAN + HAN_REST], ids=["goes on", "repeats", "over"])
@given(cuts=st.lists(st.integers(0, 20), max_size=12))
def test_in_a_script_without_spaces_no_letter_comes_twice_and_none_is_lost(text: str, cuts: list[int]) -> None:
    assert through(HAN, text, cuts) == HAN_REST


def test_a_letter_that_is_said_twice_in_a_word_is_not_dropped() -> None:
    assert through("我天", "天看书。", []) == "天看书。"


@pytest.mark.parametrize("text", [HAN + HAN_REST, "แม่น้ำแซน"])
def test_the_gate_does_not_wait_for_a_space_that_never_comes(text: str) -> None:
    gate = WordGate()
    out = [gate.put(letter) for letter in text]
    assert sum(map(bool, out)) > len(text) / 2
    assert gate.said + gate.finish() == text


def test_what_stands_behind_the_last_whole_sentence() -> None:
    for said, rest in (
        ("", ""),
        ("It is Par", "It is Par"),
        ("It is Paris. ", ""),
        ("It is Paris.", "It is Paris."),
        ('He said "no." Then he ', "Then he "),
        ("是巴黎。它在", "它在"),
    ):
        assert last_sentence(said) == rest
