"""A model that goes round in circles, and people who only seem to."""

from __future__ import annotations

import pytest

from thalweg.stages.language.repetition import Repetition, without_circles


def stopped(text: str, size: int = 3) -> int | None:
    """After how many characters it is noticed."""
    repetition = Repetition()
    for at in range(0, len(text), size):
        if repetition.feed(text[at : at + size]):
            return at + size
    return None


@pytest.mark.parametrize(
    ("once", "rounds"),
    [
        ("The sky is blue. ", 3),
        ("I like cats. I like dogs! ", 3),
        ("One is red. One is green. One is blue. One is not. ", 3),
        ("Are you sure? ", 3),
        ("No. ", 8),
        ("the sky and ", 8),
        ("word ", 24),
        ("你好，世界。", 3),
        ("我喜欢猫", 6),
        ("- a line of a list\n", 3),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 50])
def test_a_circle_is_noticed_in_the_round_that_makes_it_one(once: str, rounds: int, size: int) -> None:
    at = stopped(once * 100, size)
    assert at is not None
    assert (rounds - 1) * len(once) < at <= rounds * len(once) + size + 1


@pytest.mark.parametrize(
    "text",
    [
        "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream.",
        "Knock, knock. Who is there? Knock, knock. Who is there?",
        "No. No. No. I mean it.",
        "Ha ha ha ha ha! That is good.",
        "One plus one is two. One plus two is three. One plus three is four. One plus four is five.",
        "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday.",
        "The address is 10.0.0.1, and the version is 3.3.3.",
        "Well... hm... I do not know...",
    ],
)
def test_what_people_say_twice_is_none(text: str) -> None:
    assert stopped(text) is None


def test_a_circle_is_remembered_once() -> None:
    assert without_circles("So. The sky is blue. The sky is blue. The sky is blue.") == "So. The sky is blue."
    assert without_circles("A cat is. A dog is. A cat is. A dog is. A cat is. A dog is.") == "A cat is. A dog is."
    assert without_circles("the sky and " * 8) == "the sky and"
