"""The author of a stage is told where it raised."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from thalweg.deploy.errors import raised_where
from thalweg.pipeline.errors import ThalwegError

ROOT = Path(__file__).parents[3]
MODULE = """from thalweg import Context, Packet, Transcript


class Says:
    outputs = {"transcript": Transcript}

    async def run(self, ctx: Context) -> None:
        await ctx.send(Transcript(text="one", final=True), time=ctx.now_ns(), epoch=1)


class Divides:
    inputs = {"transcript": Transcript}

    def process(self, packet: Packet, ctx: Context) -> None:
        self.divide(0)

    def divide(self, by: int) -> None:
        int("1", base=40)
"""
LINE = MODULE.splitlines().index('        int("1", base=40)') + 1
PIPELINE = """
stages: {says: "mine:Says", divides: "mine:Divides"}
connections: [says -> divides]
"""
APART = "workers: {other: {launcher: subprocess}}\nplacement: {divides: other}\n"


@pytest.mark.real
@pytest.mark.parametrize("placement", ["", APART])
def test_what_a_stage_raises_is_said_with_its_file_and_line(placement: str, tmp_path: Path) -> None:
    said = failed(placement, tmp_path)
    assert f"int() base must be >= 2 and <= 36, or 0 (mine.py:{LINE})" in " ".join(said.split())
    assert "Traceback" not in said


@pytest.mark.real
@pytest.mark.parametrize("placement", ["", APART])
def test_its_traceback_is_shown_where_that_is_asked_for(placement: str, tmp_path: Path) -> None:
    assert f'mine.py", line {LINE}, in divide\n' in failed(placement, tmp_path, "--debug")


def failed(placement: str, folder: Path, *options: str) -> str:
    """What is said on standard error."""
    (folder / "mine.py").write_text(MODULE, encoding="utf-8")
    (folder / "mine.yaml").write_text(PIPELINE + placement, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "thalweg.deploy", *options, "run", "-q", "mine.yaml"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as found:
        return found


def test_what_was_written_for_people_has_no_line() -> None:
    class Mine: ...

    assert raised_where(raised(ValueError("x")), Mine()).startswith("test_where.py:")
    assert raised_where(raised(ThalwegError("give it a name")), Mine()) == ""
    assert raised_where(ValueError("never raised"), Mine()) == ""
    assert raised_where(raised(ValueError("of another module")), object()) == ""
    assert raised_where(None, Mine()) == ""
