from __future__ import annotations

import json
import unicodedata
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.text import MOST, as_json, as_xml, printable

ANY = st.text(st.characters(exclude_categories=()))  # halves of surrogate pairs included


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b]0;pwned\x07\x1b[2J", r"\x1b]0;pwned\x07\x1b[2J"),
        ("\x9b31mred", r"\x9b31mred"),
        ("invoice\u202etxt.exe", r"invoice\u202etxt.exe"),
        ("a\u2066b\u2069", r"a\u2066b\u2069"),
        ("caf\udce9.wav", r"caf\xe9.wav"),
        ("half \ud83d", r"half \ud83d"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("two\r\nlines\tand\x0bmore", "two lines and more"),
        ("tag\U000e0041", r"tag\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_instead(hostile: str, shown: str) -> None:
    assert printable(hostile) == shown


@pytest.mark.parametrize(
    "text",
    ["[/INST] :smile: [bold]", "東京 – Grüße", "👍🏽 👨\u200d👩\u200d👧", "می\u200cخواهم", "שלום\u200f!", "e\u0301"],
)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_lines_stay_where_they_are_wanted() -> None:
    assert printable("a\r\nb\tc\x1b", lines=True) == "a\nb\tc\\x1b"


def test_what_is_too_long_is_cut_and_says_so() -> None:
    assert printable("a" * 10, 4) == "aaa…"
    assert len(printable("\x1b" * 10**6)) == MOST


@given(ANY, st.booleans())
def test_nothing_unfit_is_left_and_doing_it_twice_changes_nothing(text: str, lines: bool) -> None:
    shown = printable(text, lines=lines)
    left = {c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")}
    assert left <= ({"\n", "\t"} if lines else set())
    assert printable(shown, lines=lines) == shown
    shown.encode()


@given(ANY)
def test_json_reads_back_as_it_was_and_can_be_shown(text: str) -> None:
    line = as_json({text: [text]})
    assert json.loads(line) == {text: [text]}
    assert printable(line, None) == line


@given(ANY)
def test_xml_can_be_read_whatever_the_text(text: str) -> None:
    assert ElementTree.fromstring(f"<t>{as_xml(text)}</t>").text in (printable(text), None)
