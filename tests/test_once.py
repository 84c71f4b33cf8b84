"""What has passed before is not run again, and only then."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import once


def reports(*ids: str) -> Any:  # Any: stand for reports and tests, of which the id counts
    return [SimpleNamespace(nodeid=name) for name in ids]


def test_those_that_passed_are_left_out_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(once.PASSED, str(tmp_path / "passed"))
    every = reports("a.py::one", "a.py::two[x@y]", "b.py::three")
    assert once.divided(every) == (every, [])
    once.keep(once.ids_of(reports("a.py::one@a.py", "a.py::two[x@y]@bench")))
    assert once.divided(every) == (every[2:], every[:2])
    once.keep(once.ids_of(every[2:]))
    assert once.divided(every) == ([], every)


def test_without_the_variable_all_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(once.PASSED, raising=False)
    every = reports("a.py::one")
    once.keep(["a.py::one"])
    assert once.divided(every) == (every, [])
