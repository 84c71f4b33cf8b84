"""Cutting audio into turns, on a real model and synthetic speech."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.conftest import QUESTION, require_model, require_package
from thalweg.deploy.testing import packet, run_stage
from thalweg.pipeline.duration import MS
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, Speech, SpeechEvent
from thalweg.pipeline.signal import Flush, Interrupt
from thalweg.stages.io.audio import AudioFile
from thalweg.stages.speech.vad import VoiceActivity

pytestmark = pytest.mark.real

RATE = 16_000


@pytest.fixture(scope="module")
def question() -> list[Packet]:
    require_package("onnxruntime", "vad")
    require_package("av", "audio")
    require_model("silero-vad")
    return [e.packet for e in run_stage(AudioFile(QUESTION), {}).emitted]


def quiet(seconds: float, level: float = 0.0) -> list[Packet]:
    noise = np.random.default_rng(0).normal(0, level, round(seconds * RATE)).astype(np.float32)
    chunks = [noise[i : i + 320] for i in range(0, len(noise), 320)]
    return [packet(AudioChunk(samples=c, rate=RATE), time=i * 20 * MS) for i, c in enumerate(chunks)]


def events(outcome: Any) -> list[SpeechEvent]:
    return [p.event for p in outcome.payloads() if p.event is not SpeechEvent.CONTINUE]


def test_two_questions_are_two_turns_with_epochs_of_their_own(question: list[Packet]) -> None:
    outcome = run_stage(VoiceActivity(silence=300 * MS), question)
    assert events(outcome) == [SpeechEvent.START, SpeechEvent.END] * 2
    assert {e.packet.epoch for e in outcome.emitted} == {1, 2}


def test_a_turn_ends_when_the_silence_is_over_and_says_when_speech_ended(question: list[Packet]) -> None:
    outcome = run_stage(VoiceActivity(silence=300 * MS), question)
    for end in (e for e in outcome.emitted if isinstance(e.payload, Speech) and e.payload.event is SpeechEvent.END):
        assert isinstance(end.payload, Speech)
        assert end.payload.speech_end_ns is not None
        assert 300 * MS <= end.at_ns - end.payload.speech_end_ns <= 360 * MS


def test_the_pieces_of_a_turn_lie_end_to_end(question: list[Packet]) -> None:
    turn = [e for e in run_stage(VoiceActivity(), question).emitted if e.packet.epoch == 1]
    for before, after in pairwise(turn[:-1]):
        assert isinstance(before.payload, Speech)
        assert after.packet.time == before.packet.time + before.payload.audio.duration_ns


def test_speech_interrupts_only_where_barge_in_is_on(question: list[Packet]) -> None:
    loud = run_stage(VoiceActivity(barge_in=True), question)
    polite = run_stage(VoiceActivity(barge_in=False), question)
    assert loud.signals == [Interrupt(origin="stage", epoch=1), Interrupt(origin="stage", epoch=2)]
    assert polite.signals == []


def test_a_flush_ends_the_turn_at_once_and_only_where_there_is_one(question: list[Packet]) -> None:
    spoken = next(e.at_ns for e in run_stage(VoiceActivity(), question).emitted) + 200 * MS
    items = [p for p in question if p.time <= spoken] + [(spoken, Flush()), (spoken + MS, Flush())]
    (end,) = (e for e in run_stage(VoiceActivity(), items).emitted if e.payload.event is SpeechEvent.END)
    assert spoken <= end.at_ns < spoken + MS


def test_a_flush_ends_with_all_that_was_heard_and_says_until_when(question: list[Packet]) -> None:
    spoken = next(e.at_ns for e in run_stage(VoiceActivity(), question).emitted) + 220 * MS
    before = [p for p in question if p.time <= spoken]
    turn = [e.payload for e in run_stage(VoiceActivity(), [*before, (spoken, Flush())]).emitted]
    heard = sum(len(speech.audio.samples) for speech in turn)
    first = run_stage(VoiceActivity(), before).emitted[0].packet.time
    until = before[-1].time + before[-1].payload.duration_ns
    assert heard == (until - first) * RATE // 1_000_000_000
    assert turn[-1].speech_end_ns == until


def test_a_flush_for_an_older_turn_does_not_end_this_one(question: list[Packet]) -> None:
    begun = next(e.at_ns for e in run_stage(VoiceActivity(), question).emitted)
    items = [p for p in question if p.time <= begun + 200 * MS]
    for epoch, ends in ((1, 2), (7, 1)):
        outcome = run_stage(VoiceActivity(), [*items, (begun + 200 * MS, Flush(epoch=epoch)), *question[len(items) :]])
        at = next(e.at_ns for e in outcome.emitted if e.payload.event is SpeechEvent.END)
        assert (at <= begun + 220 * MS) == (ends == 2)


@pytest.mark.parametrize("level", [0.0, 0.03])
def test_silence_and_noise_are_no_turn(question: list[Packet], level: float) -> None:
    assert run_stage(VoiceActivity(), quiet(3, level)).emitted == []


def test_audio_that_ends_in_mid_turn_ends_the_turn(question: list[Packet]) -> None:
    assert events(run_stage(VoiceActivity(), question[:60])) == [SpeechEvent.START, SpeechEvent.END]


def test_a_turn_that_goes_on_for_ever_is_cut(question: list[Packet]) -> None:
    outcome = run_stage(VoiceActivity(max_turn=640 * MS), question[:100])
    first = [e for e in outcome.emitted if e.packet.epoch == 1]
    assert first[-1].packet.time - first[0].packet.time <= (640 + 256 + 96) * MS


def test_a_turn_that_is_nearly_too_long_ends_in_a_short_pause(question: list[Packet]) -> None:
    sound = np.concatenate([p.payload.samples for p in question])[8_000 : 8_000 + 26_000]
    breath = np.zeros(4_800, np.float32)
    talk = np.concatenate([part for _ in range(6) for part in (sound, breath)])
    fed = [
        packet(AudioChunk(samples=talk[i : i + 320], rate=RATE), time=i * 1_000_000_000 // RATE)
        for i in range(0, len(talk), 320)
    ]
    outcome = run_stage(VoiceActivity(max_turn=6_000 * MS), fed)
    (end, *_) = [e for e in outcome.emitted if e.payload.event is SpeechEvent.END]
    turn_ns = end.packet.time - outcome.emitted[0].packet.time
    assert 5_000 * MS <= turn_ns < 6_000 * MS
    assert 0 < end.payload.silence_ns < 500 * MS


def test_another_rate_is_refused_with_what_to_do(question: list[Packet]) -> None:
    wrong = packet(AudioChunk(samples=np.zeros(80, np.float32), rate=8000))
    (problem,) = run_stage(VoiceActivity(), [wrong]).problems
    assert "got 8000 Hz" in problem
    assert "set `rate: 16000` at the source" in problem


def test_a_stage_restored_from_a_snapshot_goes_on_as_if_it_had_not_moved(question: list[Packet]) -> None:
    class Moving(VoiceActivity):
        """Snapshots and restores itself before every packet."""

        def process(self, packet: Packet, ctx: Any) -> None:
            self.restore(self.snapshot())
            super().process(packet, ctx)

    def stays(stage: VoiceActivity) -> list[tuple[SpeechEvent, int, int]]:
        emitted = run_stage(stage, question).emitted
        return [(e.payload.event, e.packet.time, len(e.payload.audio.samples)) for e in emitted]  # type: ignore[attr-defined]

    assert stays(Moving()) == stays(VoiceActivity())


def test_a_silence_set_while_it_runs_holds_as_one_of_the_start_also_above_the_longest(
    question: list[Packet],
) -> None:
    require_model("smart-turn-v3")

    class Changing(VoiceActivity):
        def process(self, packet: Packet, ctx: Any) -> None:
            self.configure({"silence": 3_000 * MS})
            super().process(packet, ctx)

    last_ns = question[-1].time
    asked = [*question, *(packet(p.payload, time=last_ns + 20 * MS + p.time) for p in quiet(5))]
    stages = Changing(end_of_turn="understood"), VoiceActivity(end_of_turn="understood", silence=3_000 * MS)
    changed, new = (
        [(e.at_ns, e.payload) for e in run_stage(stage, asked).emitted if e.payload.event is SpeechEvent.END]
        for stage in stages
    )
    assert [at for at, _ in changed] == [at for at, _ in new]
    at_ns, end = changed[-1]
    assert at_ns - end.speech_end_ns > 1_400 * MS
