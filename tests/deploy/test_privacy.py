"""What a pipeline keeps of people: said before, or nothing where its file says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from thalweg.deploy.__main__ import cli
from thalweg.deploy.ops.observing.outcome import Outcome
from thalweg.deploy.ops.observing.report import build_report
from thalweg.deploy.ops.pictures.trace_file import trace_events
from thalweg.deploy.reading import read_spec
from thalweg.pipeline.file.source import SpecError
from thalweg.pipeline.file.spec import load_spec
from thalweg.pipeline.observing.turn import Turn

KEEPS = """
name: kept
stages:
  file: {use: audio.file, path: question.wav}
  sound: {use: sink.audio, path: heard.wav}
  words: {use: sink.jsonl}
connections: [file -> sound, file -> words]
"""
TALKS = """
name: talks
keep: nothing
stages:
  microphone: {use: live.microphone}
  speaker: {use: live.speaker}
connections: [microphone -> speaker]
"""


def test_what_stages_keep_of_people_is_known_before_anything_runs() -> None:
    spec = load_spec(KEEPS)
    assert spec.kept.keys() == {"sound", "words"} and not spec.keeps_nothing
    assert "file" in spec.kept["sound"]


def test_a_file_that_keeps_nothing_refuses_every_stage_that_would() -> None:
    with pytest.raises(SpecError) as refused:
        load_spec(KEEPS + "keep: nothing\n")
    assert len(refused.value.problems) == 2 and "keep: nothing" in str(refused.value)


@pytest.mark.parametrize("value", ["everything", "no", "0", "[nothing]"])
def test_what_may_be_kept_is_nothing_or_not_said(value: str) -> None:
    with pytest.raises(SpecError):
        load_spec(KEEPS + f"keep: {value}\n")


def test_that_nothing_is_kept_goes_with_the_file_to_other_processes() -> None:
    spec = load_spec(TALKS)
    assert spec.keeps_nothing and spec.document["keep"] == "nothing"


def test_reports_and_traces_without_words_have_everything_else() -> None:
    turn = Turn(
        epoch=1,
        speech_start_ns=0,
        speech_end_ns=5,
        transcript="a secret",
        reply="another",
        marks={"final_transcript": 6},
    )
    outcome = Outcome(started_ns=0, ended_ns=10, turns={1: turn})
    found = json.dumps([build_report(outcome.without_words(), "p"), trace_events(outcome.without_words())])
    assert "secret" not in found and "another" not in found and "final_transcript_ms" in found
    assert turn.transcript == "a secret"


def test_what_is_to_keep_nothing_is_not_recorded(tmp_path: Path) -> None:
    path, out = tmp_path / "talks.yaml", tmp_path / "talk.twr"
    path.write_text(TALKS, encoding="utf-8")
    assert read_spec(path, {}).keeps_nothing
    done = CliRunner().invoke(cli, ["record", str(path), "--channel", "microphone -> speaker", "--out", str(out)])
    assert "keep: nothing" in str(done.exception) and not out.exists()
