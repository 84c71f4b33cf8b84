"""A file that is looked at runs nothing: no class beside it, nothing it includes, no module that hides here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

CLASS = '''
from pathlib import Path
Path(__file__).with_name("RAN").touch()
from thalweg.pipeline.payload import Token

class Stage:
    """Somebody's."""
    inputs = {"text": Token}
    outputs = {"audio": Token, "other": Token}
    def __init__(self, level: int = 3) -> None:
        pass
    def process(self, packet, ctx):
        pass
'''
FILE = """
name: theirs
stages:
  file: {use: audio.file, path: x.wav}
  a: {use: "innocent:Stage", level: high, deadline: 1s}
  b: {use: "innocent:Stage", bogus: 1}
  sink: sink.jsonl
connections:
  - file -> a.text
  - a.audio -> b
  - {from: b, to: sink, policy: latest}
workers: {pool: {replicas: 2}}
placement: {b: subprocess}
"""
LOOKING = ("validate", "plan", "plan --json", "graph", "graph --format svg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "innocent.py").write_text(CLASS, encoding="utf-8")
    (theirs / "p.yaml").write_text(FILE, encoding="utf-8")
    for hidden in ("av", "cv2", "onnxruntime", "openai", "grpc"):  # what our own stages import when they are there
        (theirs / f"{hidden}.py").write_text(CLASS, encoding="utf-8")
    return theirs


def thalweg(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "thalweg.deploy", *arguments], cwd=folder, env=os.environ | environment,
        capture_output=True, text=True, encoding="utf-8", timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", LOOKING)
def test_looking_at_a_file_runs_no_class_of_it_and_says_so(folder: Path, command: str) -> None:
    ran = thalweg(folder, *command.split(), "p.yaml")
    assert not (folder / "RAN").exists()
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == (
        "not checked: a (innocent:Stage), b (innocent:Stage); their code was not run. "
        "If you trust it, --trust imports and checks them\n"
    )


def test_what_the_file_itself_says_of_such_a_stage_is_checked(folder: Path) -> None:
    told = json.loads(thalweg(folder, "plan", "--json", "p.yaml").stdout)
    assert [edge["name"] for edge in told["edges"]] == ["file.audio -> a.text", "a.audio -> b.…", "b.… -> sink.any"]
    (folder / "p.yaml").write_text(FILE.replace("sink, policy", "sing, policy"), encoding="utf-8")
    assert "there is no stage 'sing' (did you mean 'sink'?)" in thalweg(folder, "validate", "p.yaml").stderr


@pytest.mark.parametrize("command", LOOKING)
def test_a_file_that_is_trusted_is_checked_whole(folder: Path, command: str) -> None:
    ran = thalweg(folder, *command.split(), "--trust", "p.yaml")
    assert (folder / "RAN").exists()
    assert ran.returncode == 2
    assert "level: Input should be a valid integer" in ran.stderr
    assert "stage innocent:Stage has no parameter 'bogus'" in ran.stderr


def test_a_folder_of_the_list_is_trusted_and_one_beside_it_is_not(folder: Path) -> None:
    assert "not checked" in thalweg(folder, "validate", "p.yaml", THALWEG_TRUSTED=str(folder) + "-of-mine").stderr
    assert not (folder / "RAN").exists()
    ran = thalweg(folder, "validate", "p.yaml", THALWEG_TRUSTED=f"/nowhere:{folder.parent}")
    assert "level: Input" in ran.stderr


def test_a_link_from_a_trusted_folder_to_a_file_elsewhere_is_not_trusted(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "p.yaml").symlink_to(folder / "p.yaml")
    assert "not checked" in thalweg(mine, "validate", "p.yaml", THALWEG_TRUSTED=str(mine)).stderr


@pytest.mark.parametrize("use", [":x", ".x:y", "x:", "x y:z", "os.system('x'):y", "a:b:c"])
def test_what_can_be_no_class_is_refused(folder: Path, use: str) -> None:
    (folder / "q.yaml").write_text(f'stages: {{a: {{use: "{use}"}}}}', encoding="utf-8")
    for trust in ([], ["--trust"]):
        ran = thalweg(folder, "validate", *trust, "q.yaml")
        assert f"{use!r} names no class: expected package.module:Class" in ran.stderr


def test_a_class_is_shown_where_it_is_trusted_and_not_run_otherwise(folder: Path) -> None:
    ran = thalweg(folder, "stages", "innocent:Stage")
    assert (ran.returncode, ran.stderr) == (
        2,
        "thalweg: innocent:Stage was not looked at, since that runs its code. If you trust it: --trust\n",
    )
    assert not (folder / "RAN").exists()
    ran = thalweg(folder, "stages", "--trust", "innocent:Stage")
    assert ran.returncode == 0 and "Somebody's." in ran.stdout
    assert (
        "there is no stage 'speech.vat' (did you mean 'speech.vad'?)" in thalweg(folder, "stages", "speech.vat").stderr
    )


@pytest.mark.parametrize("body", ["import sys; sys.exit(3)", "1 / 0", "def", "import nothing_like_it"])
def test_a_module_that_fails_when_it_is_imported_is_said_in_a_line(folder: Path, body: str) -> None:
    (folder / "innocent.py").write_text(body, encoding="utf-8")
    ran = thalweg(folder, "validate", "--trust", "p.yaml")
    assert ran.returncode == 2
    assert "stage 'innocent:Stage' cannot be imported" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(("include", "said"), [("/dev/zero", "a device"), ("pipe", "a pipe"), (".", "a folder")])
def test_a_device_pipe_or_folder_that_is_included_is_refused_at_once(folder: Path, include: str, said: str) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "q.yaml").write_text(f"include: [{include}]", encoding="utf-8")
    ran = thalweg(folder, "validate", "q.yaml")
    assert f"cannot include '{include}': it is {said}, expected a file" in ran.stderr


def test_names_with_escapes_are_shown_and_not_obeyed(folder: Path) -> None:
    text = 'name: "\\e]0;x\\a"\nstages: {"a\\e[31m": {use: "no\\e[2J"}}\nconnections: ["\\e[2Jx -> y"]'
    (folder / "q.yaml").write_text(text, encoding="utf-8")
    for command in LOOKING:
        ran = thalweg(folder, *command.split(), "q.yaml")
        assert "\x1b" not in ran.stdout + ran.stderr
