"""What was skipped, told at the end of a run by what would bring it: one command makes a group of tests run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

import pytest

NEEDS = "Skipped: needs: "
KEPT = "thalweg/skipped"
"""Where a run of unit tests leaves its list in pytest's cache, for the run of all others to tell it with its own."""

Groups = dict[str, dict[str, int]]


def groups(reports: Iterable[pytest.TestReport | pytest.CollectReport]) -> Groups:
    """How many tests of which files each remedy would bring, the greatest group first."""
    found: dict[str, Counter[str]] = {}
    for report in reports:
        if isinstance(report.longrepr, tuple):
            reason = report.longrepr[2]
            remedy = reason.removeprefix(NEEDS) if reason.startswith(NEEDS) else reason.removeprefix("Skipped: ")
            found.setdefault(remedy, Counter())[report.nodeid.partition("::")[0]] += 1
    return {remedy: dict(files) for remedy, files in found.items()}


def merged(one: Groups, other: Mapping[str, Mapping[str, int]]) -> Groups:
    """Both lists as one."""
    return {remedy: dict(Counter(one.get(remedy, {})) + Counter(other.get(remedy, {}))) for remedy in {**one, **other}}


def lines(found: Groups) -> list[str]:
    """A line for each group: what would bring it, how many, where they are."""
    ordered = sorted(found.items(), key=lambda group: -sum(group[1].values()))
    return [f"{sum(files.values()):5}  {remedy}  ({_folders(files)})" for remedy, files in ordered]


def _folders(files: Mapping[str, int]) -> str:
    if len(files) == 1:
        return next(iter(files))
    return ", ".join(sorted({PurePosixPath(file).parent.as_posix() for file in files}))
