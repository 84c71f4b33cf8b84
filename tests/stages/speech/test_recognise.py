"""Which stage the name of a model stands for, and that it does all of the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.conftest import EXAMPLES
from thalweg import AudioChunk, Packet, Speech, SpeechEvent, Transcript
from thalweg.deploy.testing import packet, run_stage
from thalweg.models.errors import ModelError
from thalweg.stages.speech import recognise
from thalweg.stages.speech.recognise import Recognise


class Echo:
    """Says what it was made with, once for each packet."""

    made: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.made.append((args, kwargs))
        self.calls: list[str] = []

    def open(self, ctx: Any) -> None:
        self.calls.append("open")

    def close(self) -> None:
        self.calls.append("close")

    def process(self, packet: Packet, ctx: Any) -> None:
        ctx.emit(Transcript(text=" ".join(self.calls), final=True, stable_chars=0))

    def snapshot(self) -> dict[str, Any] | None:
        return {"calls": self.calls}

    def restore(self, state: dict[str, Any]) -> None:
        self.calls = state["calls"]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    whisper, sphinx = (type(name, (Echo,), {"made": found}) for name in ("FakeWhisper", "FakeSphinx"))
    monkeypatch.setattr(recognise, "Whisper", whisper)
    monkeypatch.setattr(recognise, "PocketSphinx", sphinx)
    return found


def test_a_whisper_is_named_by_its_model(made: list[Any]) -> None:
    Recognise("whisper-tiny.en", "fr", ("Thalweg",))
    assert made == [(("whisper-tiny.en",), {"language": "fr", "phrases": ("Thalweg",)})]


def test_pocketsphinx_runs_in_a_process_of_its_own(made: list[Any]) -> None:
    Recognise("pocketsphinx")
    assert made == [((), {"apart": True})]


def test_the_stage_behind_it_is_opened_asked_and_closed(made: list[Any]) -> None:
    stage = Recognise()
    nothing = Speech(
        audio=AudioChunk(samples=np.zeros(0, np.float32), rate=16_000), event=SpeechEvent.END, speech_end_ns=0
    )
    outcome = run_stage(stage, [packet(nothing, epoch=1)])
    assert [each.text for each in outcome.payloads()] == ["open"]
    assert stage.snapshot() == {"calls": ["open", "close"]}


@pytest.mark.parametrize(("language", "phrases", "what"), [("de", (), "language 'de'"), ("en", ("Bonn",), "phrases")])
def test_pocketsphinx_is_not_asked_for_what_it_cannot_do(language: str, phrases: tuple[str, ...], what: str) -> None:
    with pytest.raises(ModelError, match=f"{what} asked for: take whisper-base"):
        Recognise("pocketsphinx", language, phrases)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_leave_the_recogniser_to_a_variable(path: Path) -> None:
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    named = [stage["use"] for stage in said.get("stages", {}).values() if stage["use"].startswith("speech.")]
    if "speech.vad" in named:
        assert said["stages"]["recogniser"]["model"] == "${recogniser}"
        assert said["variables"]["recogniser"]["default"] == "whisper-base"


def test_a_model_of_one_language_takes_no_other_while_it_runs() -> None:
    stage = Recognise("pocketsphinx")
    stage.configure({"language": "en"})
    with pytest.raises(ModelError, match="knows English only"):
        stage.configure({"language": "de"})
