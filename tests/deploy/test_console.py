"""What is shown in a terminal: text of strangers stays text."""

from __future__ import annotations

import pytest
from rich.table import Table
from rich.text import Text

from thalweg.deploy.console import Console, line
from thalweg.deploy.ops.observing.report import print_report

FOREIGN = ("Lecture [dq4w9abc].wav", "[/INST]", "[bold]", "a[/x", ":smile:", "[red]", r"\[", "[link=https://x]y[/link]")


@pytest.mark.parametrize("foreign", FOREIGN)
def test_brackets_and_colons_in_a_line_are_shown_as_they_are(foreign: str, capsys: pytest.CaptureFixture[str]) -> None:
    Console().say(("error", "red"), f" stage: {foreign}")
    assert capsys.readouterr().out == f"error stage: {foreign}\n"


@pytest.mark.parametrize("foreign", FOREIGN)
def test_brackets_in_cells_titles_and_heads_are_shown_as_they_are(
    foreign: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table(foreign, title=f"title {foreign}")
    table.add_row(foreign)
    table.add_row(line(foreign, (" (failed)", "red")))
    Console().print(table)
    assert capsys.readouterr().out.count(foreign) == 4


@pytest.mark.parametrize("wrap", [str, Text, lambda text: line((text, "red"))])
def test_no_escape_reaches_the_terminal_however_it_is_given(wrap: object, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("x")
    table.add_row(wrap("\x1b]52;c;cm0\x07\x9b2J\u202e"))  # type: ignore[operator]
    Console().print(table)
    Console().print(wrap("\x1b[2J"))  # type: ignore[operator]
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown)
    assert r"\x1b]52;c" in shown


def test_a_transcript_with_a_bracket_stands_in_the_table_of_turns(capsys: pytest.CaptureFixture[str]) -> None:
    turn = dict.fromkeys(
        (f"{m}_ms" for m in ("first_partial", "final_transcript", "first_token", "first_audio", "decision")), None
    ) | {"turn": 1, "decision": None, "transcript": "what is [/INST]", "interrupted": True, "problem": None}
    report = {"turns": [turn], "turns_over_budget": 0, "stages": {}, "channels": {}, "error_count": 0, "errors": []}
    print_report(report, Console())
    assert "what is [/INST] (interrupted)" in capsys.readouterr().out
