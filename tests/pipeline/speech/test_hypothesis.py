"""Which texts a recogniser means the same words by."""

from __future__ import annotations

import pytest

from thalweg.pipeline.speech.hypothesis import same_words


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("what is it", "What is it?", True),
        ("well what is it", "Well – what is it?", True),
        ("what is it", "What is she?", False),
        ("C", "C++", False),
        ("3 5", "3.5", False),
        ("what is 10 4", "What is 10 - 4?", False),
        ("what is 10 – 4", "What is 10 – 4?", True),
    ],
)
def test_marks_behind_words_and_case_do_not_count_but_what_is_said_by_a_sign_does(
    one: str, other: str, same: bool
) -> None:
    assert same_words(one, other) is same and same_words(other, one) is same
