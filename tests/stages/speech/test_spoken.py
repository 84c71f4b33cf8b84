"""What is said aloud of a text that is made to be read."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.stages.speech.spoken import KEPT, Aloud, spoken


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
        ("see https://www.example.com/path?x=1.", "see example.com."),
        (
            "https://user:pw@host.org:8080/p?q=1, www.example.com/a or example.com/docs/x.html",
            "host.org, example.com or example.com",
        ),
        ("<https://example.com> and/or src/main.py at 1.5/2", "example.com and/or src/main.py at 1.5/2"),
        ("mailto:ann@ex.com", "ann at ex.com"),
        ("```js console.log(1)``` prints", "js console.log(1) prints"),
        ("## Heading ##", "Heading"),
        ("  - nested", "nested"),
        ("- [x] done", "done"),
        ("> - both", "both"),
        ("* * *", ""),
        ("|---|:--:|", ""),
        ("[words][reference]", "words"),
        ("[reference]: https://example.com/x", ""),
        ("[^1]: The note.", "The note."),
        ("As shown[^1], and found.[2][3,4]【4†source】", "As shown, and found."),
        ("<!-- hidden, yes. --> <script>let x = 1 < 2;</script>end", "end"),
        ("$x^2$ and $a \\times b$, $5 and $10", "x to the 2 and a times b, $5 and $10"),
        (r"\sqrt{2} \leq x^{10}", "the square root of 2 is at most x to the 10"),
        (r"5 \* 3", "5 * 3"),
        ("5 - 3 is 2", "5 - 3 is 2"),
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


CODE = """Here it is:

```python
def add(a, b):
    # Add, please. Really!
    return a + b
```

It adds two numbers."""


def test_a_block_of_code_is_not_said_however_it_comes() -> None:
    assert spoken(CODE) == "Here it is: It adds two numbers."
    aloud = Aloud()
    lines = [aloud.say(line) for line in CODE.splitlines(keepends=True)]
    assert [line for line in lines if line] == ["Here it is:", "It adds two numbers."]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("~~~\ncode\n~~~\nafter", "after"),
        ("````md\n```py\nx\n```\n````\nafter", "after"),
        ("Sure! ```py\nx\n``` after", "Sure! after"),
        ("1. So:\n   ```sh\n   rm -r x\n   ```\n2. after", "1. So: 2. after"),
        ("> ~~~\n> code\n> ~~~\nafter", "after"),
        ("```\nnever closed", ""),
    ],
)
def test_blocks_of_code_of_all_kinds_are_not_said(text: str, said: str) -> None:
    assert spoken(text) == said


@pytest.mark.parametrize(
    "piece",
    [
        "[the long, winding guide](https://example.com/a, b?c=d)",
        "![a, picture](data:image/png;base64," + "A" * 3000 + ")",
        "`f(a, b)`",
        '<a href="x, y">',
        "<!-- not, this -->",
        r"\(a, b\)",
        "$a, b$",
        "[words, all][reference]",
    ],
)
def test_what_belongs_together_is_not_cut_and_waited_for(piece: str) -> None:
    aloud = Aloud()
    assert aloud.whole(f"See {piece}, too") == f"See {KEPT * len(piece)}, too"
    for end in range(2, len(piece), max(1, len(piece) // 50)):
        assert not re.search(r"[\s,]", aloud.whole(f"See {piece[:end]}")[4:])


@pytest.mark.parametrize("text", ["[" + "never closed, " * 20, "$5, and more", "a < b, c", "a ` b" + ", c" * 100])
def test_what_never_becomes_anything_is_not_waited_for(text: str) -> None:
    assert Aloud().whole(text) == text


def test_a_long_text_made_to_be_slow_is_not() -> None:
    for piece in (
        "*",
        "[",
        "(",
        "|",
        "<a",
        "\\frac{",
        "`",
        "#",
        "-",
        "_",
        "a@",
        "[a]((",
        "[a](",
        "<!--",
        "$a",
        "\\(",
        " ",
        "a.",
    ):
        spoken(piece * 5000)
