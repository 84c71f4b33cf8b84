"""`thalweg record` and `thalweg replay` on real speech."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import QUESTION, require_model, require_package

PIPELINE = """
name: transcripts
variables:
  input: {description: speech}
  output: {description: where the transcripts go}
stages:
  microphone: {use: audio.file, path: "${input}", pace: full}
  vad: {use: speech.vad}
  recogniser: {use: speech.pocketsphinx}
  sink: {use: sink.jsonl, path: "${output}"}
connections:
  - microphone -> vad -> recogniser -> sink
"""


def thalweg(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "thalweg.deploy", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


def transcripts(path: Path) -> list[tuple[str, bool]]:
    return [(line["text"], line["final"]) for line in map(json.loads, path.read_text(encoding="utf-8").splitlines())]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for module in ("av", "onnxruntime", "pocketsphinx"):
        require_package(module, "demo")
    require_model("silero-vad")
    (tmp_path / "p.yaml").write_text(PIPELINE)
    return tmp_path


def test_a_replay_gives_the_transcript_of_the_live_run(folder: Path) -> None:
    recorded = thalweg(
        folder, "record", "p.yaml", "--channel", "vad -> recogniser", "--out", "turn.twr",
        "--set", f"input={QUESTION}", "--set", "output=live.jsonl",
    )  # fmt: skip
    assert recorded.returncode == 0, recorded.stderr
    listed = thalweg(folder, "replay", "turn.twr", "--list")
    assert "vad.speech -> recogniser.speech" in listed.stdout and "closed" in listed.stdout
    played = thalweg(
        folder, "replay", "turn.twr", "p.yaml", "--into", "recogniser.speech", "--speed", "max",
        "--set", "input=nowhere", "--set", "output=replay.jsonl",
    )  # fmt: skip
    assert played.returncode == 0, played.stderr
    live = transcripts(folder / "live.jsonl")
    assert transcripts(folder / "replay.jsonl") == live
    assert any(final for _, final in live)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["replay", "p.yaml", "--list"], "p.yaml is no recording: it begins with"),
        (["replay", "gone.twr", "--list"], "cannot read gone.twr: No such file or directory"),
        (["replay", "gone.twr"], "say which pipeline file to play it into"),
        (["replay", "gone.twr", "p.yaml", "--speed", "fast"], "'fast', expected max or a number"),
        (["record", "p.yaml", "--channel", "vad -> sink", "--out", "x.twr", *("--set", "input=i", "--set", "output=o")],
         "there is no channel 'vad -> sink'"),
        (["record", "p.yaml", "--channel", "vad -> recogniser", "--out", "no/x.twr",
          *("--set", "input=i", "--set", "output=o")], "cannot make no/x.twr: No such file or directory"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_message(folder: Path, arguments: list[str], says: str) -> None:
    done = thalweg(folder, *arguments)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
