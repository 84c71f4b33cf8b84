"""A long benchmark can be run in pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from thalweg.deploy.bench.journal import Journal


def forbidden() -> int:
    raise AssertionError("measured again")


def test_what_was_found_is_not_measured_again(tmp_path: Path) -> None:
    assert Journal(tmp_path / "j", "1").find("a", lambda: {"x": (1, 2)}) == {"x": [1, 2]}
    again = Journal(tmp_path / "j", "1")
    assert again.find("a", forbidden) == {"x": [1, 2]} and again.done == 0


def test_another_method_measures_anew_and_leaves_what_was_found_alone(tmp_path: Path) -> None:
    Journal(tmp_path / "j", "1").find("a", lambda: 1)
    assert Journal(tmp_path / "j", "2").find("a", lambda: 2) == 2
    assert Journal(tmp_path / "j", "1").find("a", forbidden) == 1


def test_when_the_time_is_over_what_is_left_is_counted(tmp_path: Path) -> None:
    Journal(tmp_path / "j", "1").find("a", lambda: 1)
    late = Journal(tmp_path / "j", "1", minutes=0)
    assert (late.find("a", forbidden), late.find("b", forbidden), late.left) == (1, None, 1)


@pytest.mark.parametrize("damage", ['{"method": "1", "key": "b", "fou', "[1]\n", "\n"])
def test_a_line_that_was_cut_off_costs_that_line(tmp_path: Path, damage: str) -> None:
    Journal(tmp_path / "j", "1").find("a", lambda: 1)
    with (tmp_path / "j").open("a") as file:
        file.write(damage)
    Journal(tmp_path / "j", "1").find("b", lambda: 2)
    journal = Journal(tmp_path / "j", "1")
    assert (journal.find("a", forbidden), journal.find("b", forbidden)) == (1, 2)


def test_without_a_file_nothing_is_kept() -> None:
    assert Journal(None, "1").find("a", lambda: 3) == 3
