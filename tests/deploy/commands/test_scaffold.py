"""What `thalweg new` writes works as it is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from thalweg.deploy.commands.scaffolding.scaffold import ScaffoldError, write_stage
from thalweg.deploy.commands.scaffolding.templates import STAGES

ROOT = Path(__file__).parents[3]


@pytest.mark.real
@pytest.mark.parametrize("kind", STAGES)
def test_a_new_stage_of_each_kind_passes_its_own_test(kind: str, tmp_path: Path) -> None:
    write_stage("my_stage", tmp_path, kind)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_stage.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["json", "thalweg"])
def test_a_name_that_would_hide_a_module_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ScaffoldError, match=f"{name}.py would hide the module '{name}'"):
        write_stage(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_stage("mine", tmp_path)
    with pytest.raises(ScaffoldError, match=r"mine\.py, test_mine\.py already exists; nothing was written"):
        write_stage("mine", tmp_path, "sink")
