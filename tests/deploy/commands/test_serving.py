"""The options of `thalweg serve`: what cannot be meant is refused before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from thalweg.deploy.__main__ import cli


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--sessions", "-1"),
        ("--per-address", "0"),
        ("--session-seconds", "0"),
        ("--resume-seconds", "-1"),
        ("--drain-seconds", "-1"),
    ],
)
def test_a_limit_that_would_let_nobody_talk_is_refused(option: str, value: str, tmp_path: Path) -> None:
    file = tmp_path / "empty.yaml"
    file.write_text("name: empty\n", encoding="utf-8")
    result = CliRunner().invoke(cli, ["serve", str(file), option, value])
    assert result.exit_code == 2 and f"Invalid value for '{option}'" in result.output
