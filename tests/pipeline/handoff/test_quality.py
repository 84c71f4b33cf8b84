"""How likely a question is answered rightly, from its words and what it is about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.handoff.quality import CATEGORIES, QuestionQuality, categories


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("What is three plus four?", {"number", "two numbers", "reckoning", "what is"}),
        ("How many legs does a dog have?", {"how many"}),
        ("What is the capital of France?", {"where", "what is"}),
        ("how do you say good morning in swedish", {"language", "how do"}),
        ("Tell me a story", set()),
    ],
)
def test_a_question_is_of_the_kinds_that_its_words_say(question: str, found: set[str]) -> None:
    assert {name for name, one in zip(CATEGORIES, categories(question), strict=True) if one} == found


@given(st.floats(-1e6, 1e6), st.floats(-1, 1), st.text(max_size=40))
def test_what_is_expected_is_a_share_that_grows_with_what_it_is_about(bias: float, about: float, text: str) -> None:
    told = QuestionQuality([2.0], [0.0] * len(CATEGORIES), bias)
    assert 0 <= told.of(text, [about]) <= told.of(text, [about + 1]) <= 1
