"""What a run says of what it skipped."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.skipped import groups, lines, merged


def skip(test: str, reason: str) -> Any:
    return SimpleNamespace(nodeid=test, longrepr=("conftest.py", 1, f"Skipped: {reason}"))


TORCH = "needs: .venv/bin/pip install -e '.[train]'"


def test_what_one_command_would_bring_stands_in_one_line_the_greatest_group_first() -> None:
    reports = [
        skip("tests/e2e/test_page.py::test_a", "needs: apt-get install chromium"),
        skip("tests/models/senses/test_b.py::test_b[1]", TORCH),
        skip("tests/models/senses/test_b.py::test_b[2]", TORCH),
        skip("tests/models/speech/test_c.py::test_c", TORCH),
    ]

    assert lines(groups(reports)) == [
        "    3  .venv/bin/pip install -e '.[train]'  (tests/models/senses, tests/models/speech)",
        "    1  apt-get install chromium  (tests/e2e/test_page.py)",
    ]


def test_a_skip_that_names_no_command_is_told_with_its_reason() -> None:
    assert lines(groups([skip("tests/a.py::test_a", "run as root")])) == ["    1  run as root  (tests/a.py)"]


def test_what_the_run_of_unit_tests_skipped_is_told_with_the_rest() -> None:
    unit = groups([skip("tests/a.py::test_a", TORCH)])
    rest = groups([skip("tests/b.py::test_b", TORCH), skip("tests/b.py::test_c", TORCH)])

    assert merged(rest, unit) == {TORCH.removeprefix("needs: "): {"tests/b.py": 2, "tests/a.py": 1}}
