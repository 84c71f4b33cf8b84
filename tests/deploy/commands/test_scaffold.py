"""What `thalweg new` writes works as it is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from thalweg.deploy.commands.scaffolding.scaffold import ScaffoldError, write_backend, write_stage
from thalweg.deploy.commands.scaffolding.templates import STAGES

ROOT = Path(__file__).parents[3]
SAYS = """
stages:
  says: {use: "says:Says"}
  chat: {use: language.chat, backend: "my_model:MyModel"}
  console: sink.console
connections:
  - says -> chat -> console.token
"""
SOURCE = """
from thalweg import Context, Transcript


class Says:
    outputs = {"transcript": Transcript}

    async def run(self, ctx: Context) -> None:
        await ctx.send(Transcript(text="who is there", final=True), time=ctx.now_ns(), epoch=1)
"""


@pytest.mark.real
@pytest.mark.parametrize("kind", STAGES)
def test_a_new_stage_of_each_kind_passes_its_own_test(kind: str, tmp_path: Path) -> None:
    write_stage("my_stage", tmp_path, kind)
    assert_passes("test_my_stage.py", tmp_path)


@pytest.mark.real
def test_a_new_backend_passes_its_own_test_and_answers_in_a_pipeline(tmp_path: Path) -> None:
    write_backend("my_model", tmp_path)
    assert_passes("test_my_model.py", tmp_path)
    (tmp_path / "says.yaml").write_text(SAYS, encoding="utf-8")
    (tmp_path / "says.py").write_text(SOURCE, encoding="utf-8")
    done = started(["-m", "thalweg.deploy", "run", "-q", "says.yaml"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "who is there" in done.stdout


def assert_passes(test: str, folder: Path) -> None:
    done = started(["-m", "pytest", "-q", "-p", "no:cacheprovider", test], folder)
    assert done.returncode == 0, done.stdout


def started(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", ["json", "thalweg"])
def test_a_name_that_would_hide_a_module_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ScaffoldError, match=f"{name}.py would hide the module '{name}'"):
        write_stage(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_stage("mine", tmp_path)
    with pytest.raises(ScaffoldError, match=r"mine\.py, test_mine\.py already exists; nothing was written"):
        write_stage("mine", tmp_path, "sink")
