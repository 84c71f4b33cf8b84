"""What `make quick` runs: tests of what was changed, and of what stands on it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.changed import ROOT, changed_files, touched


def names(*changed: str) -> set[str]:
    found = touched(changed)
    assert found is not None
    return {str(path.relative_to(ROOT)) for path in found}


def test_a_stage_touches_its_own_tests_those_of_what_imports_it_and_those_that_name_it() -> None:
    found = names("stages/speech/vad.py")
    assert {"tests/stages/speech/test_vad.py", "tests/stages/speech/test_recognise.py", "tests/test_rooms.py"} <= found
    assert "tests/stages/video/test_rate.py" not in found and "tests/deploy/fleet/test_manifest.py" not in found
    assert len(found) < 60


def test_what_everything_stands_on_touches_most_and_settings_of_tests_touch_all() -> None:
    assert len(names("pipeline/node.py")) > 100
    assert touched(["tests/conftest.py", "docs/edge.md"]) is None


def test_a_document_touches_tests_that_read_it_and_a_test_itself() -> None:
    assert "tests/deploy/ops/test_metrics.py" in names("docs/metrics.md")
    assert "tests/stages/speech/test_vad.py" in names("tests/stages/speech/test_vad.py")
    assert names("somewhere/else.txt") == {str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("test_*.py")}


@pytest.mark.real
def test_without_git_it_says_why_not(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="git does not say what was changed"):
        changed_files(tmp_path)


@pytest.mark.real
def test_what_was_changed_since_main_and_what_is_new_is_found(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        mine = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *mine, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    (tmp_path / "a.py").write_text("1")
    git("add", "."), git("commit", "-qm", "a")
    git("checkout", "-qb", "mine")
    (tmp_path / "a.py").write_text("2")
    git("commit", "-qam", "b")
    (tmp_path / "b c.py").write_text("3")
    assert changed_files(tmp_path) == ["a.py", "b c.py"]
