"""What is said aloud of a text that is made to be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.stages.speech.spoken import spoken


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plain text", "plain text"),
        ("**bold** word, *light*, __strong__ and ~~gone~~", "bold word, light, strong and gone"),
        ("* item one", "item one"),
        ("- dash item", "dash item"),
        ("# Heading", "Heading"),
        ("> quoted", "quoted"),
        ("use `code` now", "use code now"),
        ("[a link](https://example.com/a_b?c=1)", "a link"),
        ("see https://www.example.com/path?x=1.", "see example.com"),
        ("Great 👍🏽!", "Great!"),
        ("😀", ""),
        ("***", ""),
        ("---", ""),
        ("…", ""),
        ("\u200b", ""),
        ("| a | b |", "a, b"),
        ("E = mc^2", "E = mc to the 2"),
        ("&amp; <b>hi</b>", "& hi"),
        ("```python", ""),
        ("write to ann.lee@example.com", "write to ann.lee at example.com"),
        (r"\(\frac{1}{2}\)", "1 over 2"),
        ("3.14 and 1,234,567, $5.99, 10%, 2 * 3", "3.14 and 1,234,567, $5.99, 10%, 2 * 3"),
        ("snake_case stays", "snake_case stays"),
        ("Straße 東京", "Straße 東京"),
        ("A family 👨‍👩‍👧 and a flag 🇫🇷.", "A family and a flag."),
    ],
)
def test_marks_addresses_and_pictures_are_not_said(text: str, said: str) -> None:
    assert spoken(text) == said


@given(st.text())
def test_any_text_can_be_said_and_is_one_line(text: str) -> None:
    assert "\n" not in spoken(text)


def test_a_long_text_made_to_be_slow_is_not() -> None:
    for piece in ("*", "[", "(", "|", "<a", "\\frac{", "`", "#", "-", "_", "a@", "[a](("):
        spoken(piece * 5000)
