"""What counts as the same words."""

from __future__ import annotations

import pytest

from thalweg.deploy.bench.speech.wer_text import words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is two plus two?", "what is 2 + 2"),
        ("It costs 205 dollars.", "it costs two hundred and five dollars"),
        ("It costs $1,205.50", "it costs one thousand two hundred five dollars and fifty cents"),
        ("My number is 1-2-0-3.", "my number is one two oh three"),
        ("1984", "nineteen eighty four"),
        ("Thirty-five percent", "35%"),
        ("3 million and 4", "three million four"),
        ("Wake me at 7 o'clock", "wake me at seven o clock"),
        ("Mr. Gray’s dog", "mister grey's dog"),
        ("TEN OF CLUBS", "10 of clubs"),
        ("wait – what?!", "wait what"),
    ],
)
def test_case_punctuation_and_ways_to_write_numbers_do_not_count(one: str, other: str) -> None:
    assert words(one) == words(other)


@pytest.mark.parametrize(
    ("one", "other"), [("cat", "cats"), ("two", "to"), ("21", "twelve"), ("fifty", "fifteen"), ("it's", "it is")]
)
def test_other_words_and_numbers_do(one: str, other: str) -> None:
    assert words(one) != words(other)


def test_numbers_are_their_digits() -> None:
    assert words("two hundred and five, sixty one and ten thousand") == list("205") + list("61") + ["and"] + list(
        "10000"
    )
