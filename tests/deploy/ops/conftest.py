"""The command as these tests give it, with a state folder of its own."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from thalweg.deploy.__main__ import main
from thalweg.deploy.ops.keeping.deployments import every

ROOT = Path(__file__).parents[3]
TICKING = str(Path(__file__).parents[1] / "ticking" / "ticking.yaml")


@dataclass
class Done:
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


Thalweg = Callable[..., Done]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A state folder of its own; whatever the test has left up is ended."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield
    for folder in every():
        folder.kill_processes()


@pytest.fixture
def thalweg(state: None, monkeypatch: pytest.MonkeyPatch) -> Thalweg:
    """The command, in this process; what it brings up is in its own."""

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["thalweg", *arguments])
        out, err = io.StringIO(), io.StringIO()
        code: object = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as ended:
                code = ended.code
        return Done(int(str(code)), out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def thalweg_apart(state: None) -> Thalweg:
    """The command, in a process of its own, as from a shell."""

    def run(*arguments: str) -> Done:
        command = [sys.executable, "-m", "thalweg.deploy", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    return run
