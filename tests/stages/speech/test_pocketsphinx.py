"""When PocketSphinx is asked for what: trials in pauses, and what follows them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import QUESTION
from thalweg.deploy.testing import packet, run_stage
from thalweg.pipeline.duration import MS
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, Speech, SpeechEvent, Transcript
from thalweg.stages.io.audio import AudioFile
from thalweg.stages.speech.pocketsphinx import PocketSphinx
from thalweg.stages.speech.vad import VoiceActivity

PIECE_MS = 32


class Decoder:
    """Hears in each piece the number it is made of; `calls`: what it was asked to do."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.heard: list[str] = []

    def start(self) -> None:
        self.calls.append("start")
        self.heard = []

    def feed(self, samples: NDArray[np.float32]) -> None:
        self.heard += [f"{samples[0]:.0f}"] if len(samples) and samples[0] else []

    def partial(self) -> str:
        return " ".join(self.heard)

    def finish(self) -> tuple[str, list[Any]]:
        self.calls.append("finish")
        return self.partial(), []


class Sphinx(PocketSphinx):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.decoder: Any = Decoder()

    def open(self, ctx: Any) -> None:
        self._recogniser = self.decoder


def speech(*numbers: int, epoch: int = 1) -> list[Packet]:
    """Pieces of one turn, 0 for silence; the last of them ends it."""
    pieces, silent = [], 0
    for at, number in enumerate(numbers):
        silent = silent + 1 if number == 0 else 0
        last = at == len(numbers) - 1
        event = SpeechEvent.END if last else SpeechEvent.CONTINUE if at else SpeechEvent.START
        audio = AudioChunk(samples=np.full(512, number, np.float32), rate=16_000)
        piece = Speech(audio=audio, event=event, speech_end_ns=0 if last else None, silence_ns=silent * PIECE_MS * MS)
        pieces.append(packet(piece, time=at * PIECE_MS * MS, epoch=epoch))
    return pieces


def transcripts(stage: PocketSphinx, pieces: list[Packet]) -> list[Transcript]:
    return run_stage(stage, pieces).payloads()


def test_a_pause_makes_a_trial_and_the_turn_ends_with_it_without_further_work() -> None:
    sphinx = Sphinx()
    found = transcripts(sphinx, speech(1, 2, 0, 0, 0, 0, 0, 0, 0, 0))
    assert [(t.text, t.trial, t.final) for t in found] == [("1 2", True, False), ("1 2", False, True)]
    assert sphinx.decoder.calls == ["start", "finish"]


def test_a_voice_that_goes_on_is_decoded_from_its_beginning() -> None:
    sphinx = Sphinx(interval=10_000 * MS)
    found = transcripts(sphinx, speech(1, 2, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0, 0))
    assert [t.text for t in found if t.trial] == ["1 2", "1 2 3 4"]
    assert found[-1].text == "1 2 3 4"
    assert sphinx.decoder.calls == ["start", "finish"] * 2


def test_a_turn_that_is_cut_off_in_a_pause_is_finished_once() -> None:
    sphinx = Sphinx()
    first = speech(1, 2, 0, 0, 0, 0)[:-1]
    transcripts(sphinx, first + speech(5, 0, epoch=2))
    assert sphinx.decoder.calls == ["start", "finish", "start", "finish"]


def test_long_speech_is_tried_without_ending_it() -> None:
    sphinx = Sphinx(interval=60_000 * MS)
    found = transcripts(sphinx, speech(*[1] * 200, 0, 0, 0, 0, 2, 0))
    assert [t.trial for t in found] == [True, False]
    assert sphinx.decoder.calls == ["start", "finish"]


def test_trials_can_be_switched_off() -> None:
    assert not any(t.trial for t in transcripts(Sphinx(trial_after=0), speech(1, 2, 0, 0, 0, 0, 0)))


@pytest.mark.usefixtures("voice_demo")
def test_real_speech_comes_to_the_same_words_with_trials_as_without() -> None:
    audio = run_stage(AudioFile(path=str(QUESTION), pace="full"), []).emitted
    heard = run_stage(VoiceActivity(silence=300 * MS), [e.packet for e in audio]).emitted
    pieces = [e.packet for e in heard]
    tried = transcripts(PocketSphinx(), pieces)
    plain = transcripts(PocketSphinx(trial_after=0), pieces)
    finals = [t.text for t in plain if t.final]
    assert len(finals) == 2
    assert [t.text for t in tried if t.final] == finals
    assert [t.text for t in tried if t.trial][-1] == finals[-1]
