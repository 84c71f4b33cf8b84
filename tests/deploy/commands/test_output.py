"""What the command line does with standard output: closed, full, without a reader, in any locale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

TALKER = '''
import asyncio
from thalweg.pipeline.payload import Token

class Talker:
    """Says many words."""
    outputs = {"token": Token}
    def __init__(self, words: int = 2000, say: str = "wörd") -> None:
        self.words, self.say = words, say
    async def run(self, ctx):
        for i in range(self.words):
            await ctx.send(Token(text=f"{self.say} {i} "), time=ctx.now_ns(), epoch=1)
            await asyncio.sleep(0)
'''
PIPELINE = """
stages: {{say: {{use: "talker:Talker", words: {words}}}, out: {use}}}
connections: [say -> out{port}]
"""


@pytest.fixture
def talking(tmp_path: Path) -> Path:
    (tmp_path / "talker.py").write_text(TALKER, encoding="utf-8")
    for name, use in (("json", "sink.jsonl"), ("console", "sink.console")):
        text = PIPELINE.format(use=use, port=".token" * (name == "console"), words=2000)
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def shell(folder: Path, script: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = f'thalweg() {{ {sys.executable} -m thalweg.deploy "$@"; }}\n{script}'
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=os.environ | environment, capture_output=True, timeout=60, check=False
    )


@pytest.mark.parametrize("sink", ["json", "console"])
def test_a_run_whose_reader_is_gone_ends_quietly_as_other_programs_do(talking: Path, sink: str) -> None:
    ran = shell(talking, f'thalweg run -q {sink}.yaml | head -c 10 > /dev/null; exit "${{PIPESTATUS[0]}}"')
    assert (ran.returncode, ran.stderr) == (141, b"")


def test_a_run_whose_console_is_in_a_subprocess_ends_quietly_too(talking: Path) -> None:
    file = talking / "json.yaml"
    file.write_text(file.read_text(encoding="utf-8") + "placement: {out: subprocess}\n", encoding="utf-8")
    ran = shell(talking, 'thalweg run -q json.yaml | head -c 10 > /dev/null; exit "${PIPESTATUS[0]}"')
    assert (ran.returncode, ran.stderr) == (141, b"")


@pytest.mark.parametrize("command", ["stages", "schema", "models list", "run --help", "stages --json"])
def test_a_listing_whose_reader_is_gone_leaves_no_traceback(tmp_path: Path, command: str) -> None:
    ran = shell(tmp_path, f"thalweg {command} | true")
    assert ran.stderr == b""


@pytest.mark.parametrize("sink", ["json", "console"])
def test_a_run_without_standard_output_runs(talking: Path, sink: str) -> None:
    ran = shell(talking, f"thalweg run -q {sink}.yaml >&-")
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_a_run_without_any_standard_stream_runs_and_opens_nothing_in_their_place(talking: Path) -> None:
    ran = shell(talking, "thalweg run json.yaml <&- >&- 2>&-")
    assert ran.returncode == 0


def test_a_full_disk_under_standard_output_is_said_once(talking: Path) -> None:
    ran = shell(talking, "thalweg run -q json.yaml > /dev/full")
    assert ran.returncode == 1
    assert ran.stderr.decode().splitlines() == [
        "error out (turn 1): cannot write to standard output: No space left on device"
    ]
