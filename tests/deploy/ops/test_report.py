"""The table at the end is for people: however many turns there were, it fits a screen or two."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from thalweg.deploy.ops.observing.outcome import Outcome
from thalweg.deploy.ops.observing.report import TURNS_SHOWN, build_report, print_report
from thalweg.pipeline.observing.turn import Turn


def report(turns: int, forgotten: int = 0) -> dict[str, Any]:
    kept = {i: Turn(epoch=i, speech_start_ns=0, transcript=f"said {i}.") for i in range(1, turns + 1)}
    return build_report(Outcome(0, 1, turns=kept, turns_forgotten=forgotten), "p")


def printed(shown: dict[str, Any]) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        print_report(shown, console)
    return capture.get()


def test_the_table_shows_the_newest_turns_and_says_how_many_there_were_before() -> None:
    text = printed(report(TURNS_SHOWN + 7))
    assert "7 turns before those shown here\n" in text
    assert "said 7." not in text and "said 8." in text and f"said {TURNS_SHOWN + 7}." in text


def test_the_table_says_what_is_not_even_in_the_report() -> None:
    assert "1007 turns before those shown here, 7 of them in the report" in printed(report(TURNS_SHOWN + 7, 1000))


@pytest.mark.parametrize("turns", [1, TURNS_SHOWN])
def test_a_few_turns_are_all_shown(turns: int) -> None:
    text = printed(report(turns))
    assert "before those" not in text and "said 1." in text
