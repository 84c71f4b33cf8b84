"""Sinks: files whole or absent, whatever happens."""

from __future__ import annotations

import json
import os
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thalweg.deploy.errors import StartError
from thalweg.deploy.testing import packet, run_stage
from thalweg.pipeline.payload import AudioChunk, Token, Transcript
from thalweg.stages.io.sink import AudioSink, Console, JsonLines


def chunk(n: int, rate: int = 16_000) -> Any:
    return packet(AudioChunk(samples=np.full(n, 0.5, np.float32), rate=rate))


def test_audio_is_written_one_chunk_after_the_other(tmp_path: Path) -> None:
    run_stage(AudioSink(tmp_path / "a.wav"), [chunk(100), chunk(60)])
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnframes(), file.getframerate(), file.getsampwidth()) == (160, 16_000, 2)


def test_no_audio_at_all_is_still_a_valid_file(tmp_path: Path) -> None:
    run_stage(AudioSink(tmp_path / "a.wav"), [])
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getnframes() == 0


def test_a_place_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"cannot write .*a\.wav: No such file or directory"):
        run_stage(AudioSink(tmp_path / "nowhere" / "a.wav"), [chunk(1)])


@pytest.mark.parametrize("sink", [AudioSink, JsonLines])
def test_a_pipe_or_device_is_refused_and_not_replaced_by_a_file(tmp_path: Path, sink: Any) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(StartError, match="it is a folder or a device"):
        run_stage(sink(pipe), [])
    assert pipe.is_fifo()


@pytest.mark.parametrize("sink", [AudioSink, JsonLines])
def test_a_full_disk_is_said_once_and_leaves_no_file(tmp_path: Path, sink: Any, monkeypatch: Any) -> None:
    full = open("/dev/full", "wb")
    monkeypatch.setattr("thalweg.stages.io.whole.create_private", lambda path: full)
    items = [chunk(200_000), chunk(200_000)] if sink is AudioSink else [packet(Token(text="x" * 20_000))]
    outcome = run_stage(sink(tmp_path / "out"), items)
    assert len(outcome.problems) == 1
    assert "No space left on device" in outcome.problems[0]
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_file_stays_when_the_new_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"earlier")
    outcome = run_stage(AudioSink(path), [chunk(10), chunk(10, rate=8_000)])
    assert "got a chunk at 8000 Hz" in outcome.problems[0]
    with wave.open(str(path)) as file:
        assert file.getnframes() == 10


def test_json_lines_hold_every_packet_with_its_place(tmp_path: Path) -> None:
    run_stage(JsonLines(tmp_path / "a.jsonl"), [packet(Transcript(text="hi", final=True), time=7_000_000, epoch=3)])
    (line,) = (tmp_path / "a.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert (record["type"], record["text"], record["final"], record["epoch"]) == ("Transcript", "hi", True, 3)
    assert record["time_ms"] == 7.0


def test_the_console_prints_partials_finals_and_the_answer(capsys: Any) -> None:
    heard = [packet(Transcript(text="he", final=False)), packet(Transcript(text="hello", final=True), time=1)]
    said = [
        packet(Token(text="Good"), time=2),
        packet(Token(text=" day."), time=3),
        packet(Token(text="", last=True), time=4),
    ]
    run_stage(Console(), {"transcript": heard, "token": said})
    assert capsys.readouterr().out.splitlines() == ["  hearing he …", "you       hello", "thalweg   Good day."]
