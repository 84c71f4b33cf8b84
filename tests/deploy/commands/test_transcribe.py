"""Recordings become transcripts: printed, or files that are there whole or not at all, and are gone on with."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import Field

from tests.conftest import QUESTION, require_model, require_package, write_wav
from tests.stages.io.recordings import piped, wav
from thalweg.deploy.commands import transcribe
from thalweg.deploy.commands.transcribe import Wish, transcribe_files
from thalweg.deploy.transcripts.listening import Recogniser, listen
from thalweg.pipeline.graph import GraphError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Speech, SpeechEvent, Transcript, Word
from thalweg.pipeline.stage import Context, describe
from thalweg.stages.io.sound import decoded

pytestmark = pytest.mark.real


class Counting:
    """A recogniser that understands of each turn how long it was, and keeps count."""

    inputs = {"speech": Speech}
    outputs = {"transcript": Transcript}
    turns: list[int] = []
    failing_at = 0
    """Milliseconds of the recording from which on it fails."""
    stopping_at = 0
    """Likewise somebody presses Ctrl-C."""

    def __init__(
        self,
        language: Annotated[str, Field(description="language code")] = "en",
        phrases: Annotated[tuple[str, ...], Field(description="names")] = (),
    ) -> None:
        self._language = language
        self._start_ns = self._samples = 0

    def process(self, packet: Packet, ctx: Context) -> None:
        """Count samples."""
        speech = packet.payload
        assert isinstance(speech, Speech)
        if speech.event is SpeechEvent.START:
            self._start_ns, self._samples = packet.time, 0
        self._samples += len(speech.audio.samples)
        at_ms = packet.time // 1_000_000
        if self.failing_at and at_ms >= self.failing_at:
            raise OSError("the model is gone")
        if self.stopping_at and at_ms >= self.stopping_at:
            Counting.stopping_at = 0  # pressed once
            os.kill(os.getpid(), signal.SIGINT)
        if speech.event is SpeechEvent.END:
            self.turns.append(self._start_ns)
            text = f"{self._language}: {self._samples} samples"
            first = Word(text=f"{self._language}:", start_ns=self._start_ns, end_ns=self._start_ns + 1, confidence=1.0)
            ctx.emit(Transcript(text=text, final=True, stable_chars=len(text), words=(first,)))
        elif self._samples < 9_000:
            ctx.emit(Transcript(text="guess", final=False))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    require_package("onnxruntime", "vad")
    require_package("av", "audio")
    require_model("silero-vad")
    monkeypatch.setattr(transcribe, "find_stage", lambda use: describe(Counting, use))
    monkeypatch.setattr(Counting, "turns", [])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talk.flac").write_bytes(QUESTION.read_bytes())
    return tmp_path


def run(*files: str, to: tuple[str, ...] = (), settings: dict[str, str] | None = None, **wish: Any) -> int:
    return transcribe_files(
        [Path(file) for file in files], "counting", Wish(to=tuple(map(Path, to)), **wish), settings or {}
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_of_every_form_are_written_beside_the_recording(here: Path) -> None:
    assert run("talk.flac", to=(".srt", ".vtt", ".txt", ".json", ".tsv")) == 0
    assert names(here) == ["talk.flac", "talk.json", "talk.srt", "talk.tsv", "talk.txt", "talk.vtt"]
    found = json.loads((here / "talk.json").read_text(encoding="utf-8"))
    assert (found["file"], found["engine"], found["duration_s"]) == ("talk.flac", "speech.counting", 7.786)
    assert len(found["utterances"]) == 2
    assert found["utterances"][0]["text"].startswith("en: ")
    assert (here / "talk.srt").read_text(encoding="utf-8").count(" --> ") == 2


def test_what_is_there_already_is_left_unless_the_recording_is_newer(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "talk.srt").write_text("corrected by hand", encoding="utf-8")
    assert run("talk.flac", to=(".srt",)) == 0
    assert "talk.srt: there already, and no older than talk.flac; --overwrite" in capsys.readouterr().err
    assert (here / "talk.srt").read_text(encoding="utf-8") == "corrected by hand"
    assert run("talk.flac", to=(".srt",), overwrite=True) == 0
    assert " --> " in (here / "talk.srt").read_text(encoding="utf-8")
    os.utime(here / "talk.flac", (4e9, 4e9))
    Counting.turns.clear()
    assert run("talk.flac", to=(".srt",)) == 0
    assert len(Counting.turns) == 2


@pytest.mark.parametrize("how", ["failing_at", "stopping_at"])
def test_what_was_stopped_is_gone_on_with_after_the_last_utterance(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    assert run("talk.flac", to=("whole.json",)) == 0
    monkeypatch.setattr(Counting, how, 4_500)
    assert run("talk.flac", to=("a.json",)) == {"failing_at": 1, "stopping_at": 130}[how]
    assert names(here) == [".a.json.journal", "talk.flac", "whole.json"]
    assert "a.json: not written yet; the same command goes on at 0:03" in capsys.readouterr().err
    monkeypatch.setattr(Counting, how, 0)
    Counting.turns.clear()
    assert run("talk.flac", to=("a.json",)) == 0
    assert names(here) == ["a.json", "talk.flac", "whole.json"]
    assert len(Counting.turns) == 1
    a, whole = (json.loads((here / f"{name}.json").read_text(encoding="utf-8")) for name in ("a", "whole"))
    assert a["utterances"][0] == whole["utterances"][0]
    assert abs(a["utterances"][1]["start_s"] - whole["utterances"][1]["start_s"]) < 0.1


class Hesitant(Counting):
    """One that takes the longer for a turn the earlier it is, and says nothing of the second."""

    blocking = True

    def process(self, packet: Packet, ctx: Context) -> None:
        """Count, once others had the time to overtake."""
        if packet.payload.event is SpeechEvent.END:
            time.sleep(max(0.0, 0.5 - 0.1 * packet.epoch))
            if packet.epoch == 2:
                return
        super().process(packet, ctx)


def test_utterances_that_are_recognised_at_once_come_in_their_order(here: Path) -> None:
    question = np.concatenate(list(decoded(QUESTION, 16_000, 16_000)))
    write_wav(here / "long.wav", np.concatenate([question] * 3), 16_000)
    texts = {}
    for lanes in (1, 4):
        heard: list[tuple[float, str]] = []
        info = describe(Hesitant, "speech.hesitant")
        result = listen(
            here / "long.wav",
            Recogniser(info, {}, lanes),
            on_final=lambda utterance, samples, at_s, heard=heard: heard.append((samples, utterance.text)),
        )
        assert not result.failures and result.turns == 6
        texts[lanes] = heard
    assert len(texts[1]) == 5 and texts[1] == texts[4] == sorted(texts[4])


def test_with_other_settings_it_is_begun_anew(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "failing_at", 4_500)
    assert run("talk.flac", to=("a.txt",)) == 1
    monkeypatch.setattr(Counting, "failing_at", 0)
    assert run("talk.flac", to=("a.txt",), language="de") == 0
    assert [line[:3] for line in (here / "a.txt").read_text(encoding="utf-8").splitlines()] == ["de:", "de:"]


def test_a_recording_that_is_cut_short_is_written_as_far_as_it_goes_and_said(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = np.concatenate(list(decoded(here / "talk.flac", 16_000, 16_000)))
    content = write_wav(here / "b.wav", samples).read_bytes()
    (here / "b.wav").write_bytes(content[: len(content) // 2])
    assert run("b.wav", to=("b.txt",)) == 1
    assert len((here / "b.txt").read_text(encoding="utf-8").splitlines()) == 1
    assert "b.wav is cut short" in capsys.readouterr().err


def test_one_bad_recording_does_not_keep_the_others(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "bad.wav").write_text("hello, this is text", encoding="utf-8")
    (here / "z.wav").write_bytes(wav(np.zeros(16_000, np.float32)))
    assert run(".", to=(".txt",)) == 1
    assert names(here) == ["bad.wav", "talk.flac", "talk.txt", "z.txt", "z.wav"]
    assert "bad.wav is not an audio file: it is text" in capsys.readouterr().err


def test_a_pipe_is_read_and_leaves_nothing_when_it_fails(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with piped(QUESTION.read_bytes()) as path:
        assert run(str(path), to=("a.txt",)) == 0
    assert len((here / "a.txt").read_text(encoding="utf-8").splitlines()) == 2
    monkeypatch.setattr(Counting, "failing_at", 4_500)
    with piped(QUESTION.read_bytes()) as path:
        assert run(str(path), to=("b.txt",)) == 1
    assert names(here) == ["a.txt", "talk.flac"]


def test_without_files_to_write_it_is_printed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("talk.flac") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "partial  guess" in lines[0]
    assert ["final" in line for line in lines].count(True) == 2
    assert run("talk.flac", as_json=True) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (first, second) = [record for record in found if record["final"]]
    assert set(first["words"][0]) == {"text", "start_s", "end_s", "confidence"}
    assert first["time_s"] < second["time_s"]


def test_names_of_any_bytes_are_printed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    (here / name).write_bytes(QUESTION.read_bytes())
    assert run(name, "talk.flac", as_json=True) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {record["file"] for record in found} == {name, "talk.flac"}
    assert run(name, "talk.flac") == 0
    assert "caf\\xe9.wav:" in capsys.readouterr().out


def test_silence_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "z.wav").write_bytes(wav(np.zeros(16_000, np.float32)))
    assert run("z.wav") == 0
    assert capsys.readouterr().out == "no speech found\n"


@pytest.mark.parametrize(
    ("wish", "settings", "message"),
    [
        ({"translate": True}, {}, "speech.counting takes no --translate"),
        ({"language": "de"}, {"language": "fr"}, "--language and --set language=fr say the same thing"),
        ({}, {"langauge": "fr"}, "has no parameter 'langauge' \\(did you mean 'language'"),
    ],
)
def test_what_a_recogniser_does_not_take_is_refused(
    here: Path, wish: dict[str, Any], settings: dict[str, str], message: str
) -> None:
    with pytest.raises(GraphError, match=message):
        run("talk.flac", settings=settings, **wish)


def test_a_recording_that_is_not_there_is_refused_before_the_others_are_begun(here: Path) -> None:
    with pytest.raises(GraphError, match=r"gone\.wav does not exist"):
        run("talk.flac", "gone.wav", to=(".txt",))
    assert Counting.turns == []
