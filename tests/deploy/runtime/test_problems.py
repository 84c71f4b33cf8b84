"""Problems are counted, said at a rate that somebody can read, and never silent."""

from __future__ import annotations

import asyncio
import logging

import pytest

from thalweg.deploy.errors import Problem
from thalweg.deploy.runtime.problems import BURST, KEPT, LINE_S, Problems
from thalweg.deploy.testing import run_virtual
from thalweg.pipeline.clock import VirtualClock


def problem(stage: str = "a", message: str = "no", *, recovered: bool = False) -> Problem:
    return Problem(stage=stage, message=message, epoch=0, time_ns=0, recovered=recovered)


def told(*, count: int, gap_s: float = 0.0, after_s: float = 0.0, stages: tuple[str, ...] = ("a",)) -> list[Problem]:
    """What is said of so many problems, one every `gap_s`, and until `after_s` after the last."""
    said: list[Problem] = []
    clock = VirtualClock()

    async def main() -> None:
        problems = Problems(clock.now_ns)
        problems.on_problem = said.append
        for i in range(count):
            problems.note(problem(stages[i % len(stages)], f"no {i}"))
            await asyncio.sleep(gap_s)
        await asyncio.sleep(after_s)
        if not after_s:
            problems.say_rest()
        assert problems.count == count
        assert [p.message for p in problems.kept] == [f"no {i}" for i in range(min(count, KEPT))]

    run_virtual(main(), clock)
    return said


def test_few_problems_are_said_one_by_one() -> None:
    assert [p.message for p in told(count=3)] == ["no 0", "no 1", "no 2"]


def test_a_flood_is_said_in_a_line_with_how_many_there_were_and_the_last_of_them() -> None:
    said = told(count=500)
    assert len(said) == BURST + 1
    assert said[-1].message == f"{500 - BURST} more problems, the last of them: no 499"


def test_that_line_comes_while_the_run_goes_on() -> None:
    assert len(told(count=500, after_s=LINE_S + 1)) == BURST + 1


def test_a_line_names_the_stages_it_is_about() -> None:
    said = told(count=500, stages=tuple("abcdefg"))
    assert [p.stage for p in said[BURST : BURST + 5]] != []
    assert said[-1].stage == "f, g" or ", " in said[-1].stage
    assert "in 2 other stages" in said[-1].message


def test_after_a_quiet_hour_a_problem_is_said_at_once_again() -> None:
    clock, said = VirtualClock(), list[str]()

    async def main() -> None:
        problems = Problems(clock.now_ns)
        problems.on_problem = lambda p: said.append(p.message)
        for _ in range(500):
            problems.note(problem())
        await asyncio.sleep(3600)
        problems.note(problem(message="late"))

    run_virtual(main(), clock)
    assert said[-1] == "late"


def test_a_stage_that_fails_all_the_time_costs_a_few_lines_a_minute() -> None:
    said = told(count=60_000, gap_s=0.01)  # ten minutes
    assert BURST < len(said) < BURST + 11 * 12


def test_where_nobody_listens_problems_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Problems(VirtualClock().now_ns).note(problem("ears", "deaf"))
    assert caplog.messages == ["ears: deaf"]


def test_what_was_recovered_from_is_counted_beyond_what_is_kept() -> None:
    problems = Problems(VirtualClock().now_ns)
    problems.on_problem = lambda _: None

    async def main() -> None:
        for _ in range(KEPT + 50):
            problems.note(problem(recovered=True))

    run_virtual(main())
    assert (problems.recovered, len(problems.kept)) == (KEPT + 50, KEPT)
