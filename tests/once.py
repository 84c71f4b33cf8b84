"""Tests that have passed before are left out: CI's last pass runs what its first could not, and not the rest again.

`THALWEG_PASSED` names a file of test ids, one in a line. Tests in it are deselected; those that pass are added. Without
the variable every test runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

PASSED = "THALWEG_PASSED"
_GROUP = re.compile(r"@[^\]@]+$")
"""What pytest-xdist appends to the id of a test that belongs to a group."""


def passed_before() -> frozenset[str]:
    """Ids in the file; none where there is no such file."""
    path = os.environ.get(PASSED, "")
    if not path or not Path(path).exists():
        return frozenset()
    return frozenset(Path(path).read_text(encoding="utf-8").splitlines())


def divided(items: Iterable[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """(to be run, left out)."""
    before = passed_before()
    run: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        (left_out if item.nodeid in before else run).append(item)
    return run, left_out


def ids_of(reports: Iterable[pytest.TestReport]) -> list[str]:
    """The ids of tests, without their groups."""
    return [_GROUP.sub("", report.nodeid) for report in reports]


def keep(ids: Iterable[str]) -> None:
    """Add ids to the file, where one is named."""
    path = os.environ.get(PASSED, "")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.writelines(f"{name}\n" for name in ids)
