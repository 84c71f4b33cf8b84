"""Sinks: files whole or absent, whatever happens."""

from __future__ import annotations

import json
import os
import re
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thalweg.deploy.errors import StartError
from thalweg.deploy.testing import packet, run_stage
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, Token, Transcript
from thalweg.pipeline.stage import Context
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


def test_the_console_begins_a_line_for_every_answer_also_behind_one_that_broke_off(capsys: Any) -> None:
    run_stage(Console(), {"token": [packet(Token(text=f"Well {epoch}"), epoch=epoch) for epoch in (1, 2)]})
    assert capsys.readouterr().out == "thalweg   Well 1\nthalweg   Well 2\n"


def test_with_rotate_the_file_of_before_is_kept_and_the_new_one_grows_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("yesterday\n", encoding="utf-8")
    seen: list[str] = []

    class Watched(JsonLines):
        def process(self, packet: Packet, ctx: Context) -> None:
            super().process(packet, ctx)
            seen.append(path.read_text(encoding="utf-8"))

    run_stage(Watched(path, mode="rotate"), [packet(Token(text="a")), packet(Token(text="b"), time=1)])
    assert [len(each.splitlines()) for each in seen] == [1, 2]
    (aside,) = set(tmp_path.iterdir()) - {path}
    assert aside.read_text(encoding="utf-8") == "yesterday\n" and re.fullmatch(r"rows-\d{8}-\d{6}\.jsonl", aside.name)


def test_of_files_kept_within_a_second_none_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for text in "abcd":
        run_stage(JsonLines(path, mode="rotate"), [packet(Token(text=text))])
        os.utime(path, (1, 1))
    held = [json.loads(each.read_text(encoding="utf-8"))["text"] for each in tmp_path.iterdir()]
    assert sorted(held) == ["a", "b", "c", "d"]


def test_where_files_have_no_links_it_is_renamed_and_takes_no_place_either(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("thalweg.stages.io.whole.os.link", refuse)
    test_of_files_kept_within_a_second_none_takes_the_place_of_another(tmp_path)


def test_lines_are_added_behind_those_that_are_there_and_behind_one_that_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"torn', encoding="utf-8")
    for text in "ab":
        run_stage(JsonLines(path, mode="append"), [packet(Token(text=text))])
    torn, *lines = path.read_text(encoding="utf-8").splitlines()
    assert torn == '{"torn' and [json.loads(line)["text"] for line in lines] == ["a", "b"]


def test_sound_that_grows_is_a_whole_file_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    seen: list[int] = []

    class Watched(AudioSink):
        def process(self, packet: Packet, ctx: Context) -> None:
            super().process(packet, ctx)
            with wave.open(str(path)) as file:
                seen.append(file.getnframes())

    run_stage(Watched(path, mode="rotate"), [chunk(100), chunk(60)])
    run_stage(Watched(path, mode="rotate"), [chunk(10)])
    assert seen == [100, 160, 10] and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("mode", ["append", "rotate"])
def test_what_a_full_disk_left_stays_readable(tmp_path: Path, monkeypatch: Any, mode: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("yesterday\n", encoding="utf-8")
    full = open("/dev/full", "wb")
    for name in ("create_private", "append_private"):
        monkeypatch.setattr(f"thalweg.stages.io.whole.{name}", lambda path: full)
    monkeypatch.setattr("thalweg.stages.io.whole._end_line", lambda file: None)
    outcome = run_stage(JsonLines(path, mode=mode), [packet(Token(text="a")), packet(Token(text="b"), time=1)])
    assert len(outcome.problems) == 1 and "No space left on device" in outcome.problems[0]
    assert [each.read_text(encoding="utf-8") for each in tmp_path.iterdir()] == ["yesterday\n"]
