"""`thalweg new`: starts that work, each with a test that passes."""

from __future__ import annotations

import keyword
import sys
from pathlib import Path

from thalweg.deploy.commands.scaffolding.templates import BACKEND, STAGES
from thalweg.pipeline.errors import ThalwegError
from thalweg.stages.io.terminal import say

_PIPELINE = """# Finds speech in a recording and prints what it finds.
#   thalweg run {name}.yaml --set input=speech.wav
name: {name}

variables:
  input: {{description: a recording, any audio format}}

stages:
  file: {{use: audio.file, path: "${{input}}", pace: full}}
  vad: {{use: speech.vad, barge_in: false}}
  print: {{use: sink.jsonl}}

connections:
  - file -> vad -> print
"""

_PIPELINE_TEST = """from pathlib import Path

import thalweg


def test_the_pipeline_file_is_valid() -> None:
    thalweg.load(Path(__file__).with_name("{name}.yaml"), input="speech.wav").check()
"""


class ScaffoldError(ThalwegError):
    """A file that would have to be overwritten, or a name that cannot be one."""


def write_stage(name: str, folder: Path, kind: str = "transform") -> None:
    """Write NAME.py and test_NAME.py, a stage of one of the kinds in `templates.STAGES`.

    Raises ScaffoldError and writes nothing where one exists.
    """
    title = _write_class(name, folder, *STAGES[kind])
    say(f"use it:   {{use: {name}:{title}}} in a pipeline file beside it")


def write_backend(name: str, folder: Path) -> None:
    """Write NAME.py and test_NAME.py, a language-model backend. Raises as `write_stage`."""
    title = _write_class(name, folder, *BACKEND)
    say(f'use it:   {{use: language.chat, backend: "{name}:{title}"}} in a pipeline file beside it')


def write_pipeline(name: str, folder: Path) -> None:
    """Write NAME.yaml and test_NAME.py. Raises ScaffoldError and writes nothing where one exists."""
    _check(name)
    _write(folder, {f"{name}.yaml": _PIPELINE.format(name=name), f"test_{name}.py": _PIPELINE_TEST.format(name=name)})
    say(f"run it:   thalweg run {name}.yaml --set input=speech.wav")


def _write_class(name: str, folder: Path, code: str, test: str) -> str:
    """Returns the name of the class."""
    _check(name)
    title = "".join(part.capitalize() for part in name.split("_"))
    texts = {f"{name}.py": code, f"test_{name}.py": test}
    _write(folder, {file: text.replace("TITLE", title).replace("NAME", name) for file, text in texts.items()})
    say(f"test it:  python -m pytest test_{name}.py")
    return title


def _check(name: str) -> None:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ScaffoldError(
            f"{name!r} cannot name a Python module: use letters, digits and _, and no word of the language"
        )
    if name in sys.stdlib_module_names or name == "thalweg":
        raise ScaffoldError(f"{name}.py would hide the module {name!r} that others import: choose another name")


def _write(folder: Path, texts: dict[str, str]) -> None:
    taken = [name for name in texts if (folder / name).exists()]
    if taken:
        raise ScaffoldError(f"{', '.join(taken)} already exists; nothing was written")
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
        say(f"wrote {name}")
