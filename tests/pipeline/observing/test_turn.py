"""Following a turn: its milestones count from the end of speech, and old turns do not pile up."""

from __future__ import annotations

import numpy as np

from thalweg import AudioChunk, Packet, Payload, Speech, SpeechEvent, Token, Transcript
from thalweg.pipeline.observing.turn import LISTENED_TO, LONGEST, PIECES, TurnRecorder

MS = 1_000_000
SILENCE = AudioChunk(samples=np.zeros(0, np.float32), rate=16_000)
SOUND = AudioChunk(samples=np.zeros(16_000, np.float32), rate=16_000)


def packet(payload: Payload, *, time: int = 0, epoch: int = 1) -> Packet:
    return Packet(stream="s", seq=0, time=time, payload=payload, epoch=epoch)


def speak(recorder: TurnRecorder, *, until_ns: int, seen_ns: int, epoch: int = 1) -> None:
    recorder.observe(packet(Speech(audio=SOUND, event=SpeechEvent.START), epoch=epoch), seen_ns)
    end = Speech(audio=SILENCE, event=SpeechEvent.END, speech_end_ns=until_ns)
    recorder.observe(packet(end, time=until_ns, epoch=epoch), seen_ns + 300 * MS)


def test_milestones_count_from_the_moment_the_voice_stopped() -> None:
    recorder = TurnRecorder()
    speak(recorder, until_ns=900 * MS, seen_ns=1_000 * MS)
    recorder.observe(packet(Transcript(text="hi", final=True)), 1_300 * MS)
    recorder.observe(packet(Token(text="Hello")), 1_400 * MS)
    recorder.observe(packet(SOUND), 1_600 * MS)
    latencies = {name: recorder.turns[1].latency_ns(name) for name in recorder.turns[1].marks}
    assert latencies == {"final_transcript": 400 * MS, "first_token": 500 * MS, "first_audio": 700 * MS}


def test_a_file_read_faster_than_it_plays_counts_from_when_the_last_word_was_read() -> None:
    recorder = TurnRecorder()
    speak(recorder, until_ns=900 * MS, seen_ns=10 * MS)
    recorder.observe(packet(Transcript(text="hi", final=True)), 30 * MS)
    assert recorder.turns[1].latency_ns("final_transcript") == 20 * MS


def test_a_milestone_that_was_not_reached_has_no_latency() -> None:
    recorder = TurnRecorder()
    speak(recorder, until_ns=900 * MS, seen_ns=1_000 * MS)
    assert recorder.turns[1].latency_ns("first_audio") is None


def test_an_interrupt_marks_only_turns_whose_reply_was_under_way() -> None:
    recorder = TurnRecorder()
    for epoch in (1, 2):
        speak(recorder, until_ns=900 * MS, seen_ns=1_000 * MS, epoch=epoch)
    recorder.observe(packet(Token(text="done", last=True), epoch=1), 1_100 * MS)
    recorder.interrupt(3)
    assert [recorder.turns[epoch].interrupted for epoch in (1, 2)] == [False, True]


def test_the_oldest_turns_are_forgotten_counted_and_do_not_come_back() -> None:
    recorder = TurnRecorder(capacity=2)
    for epoch in (1, 2, 3, 4):
        recorder.observe(packet(Speech(audio=SOUND, event=SpeechEvent.START), epoch=epoch), 0)
    recorder.observe(packet(Token(text="late"), epoch=1), 0)
    assert list(recorder.turns) == [3, 4]
    assert recorder.forgotten == 2
    assert len(recorder._heard) == 2


def begin(recorder: TurnRecorder, *epochs: int) -> None:
    for epoch in epochs:
        recorder.observe(packet(Token(text="x"), epoch=epoch), 0)


def test_a_turn_is_looked_at_by_one_interrupt_and_by_none_after_it() -> None:
    recorder = TurnRecorder()
    begin(recorder, 3, 1, 2, 5)
    recorder.interrupt(3)
    recorder.turns[1].interrupted = False  # to see who is looked at again
    recorder.interrupt(4)
    assert [turn.epoch for turn in recorder.turns.values() if turn.interrupted] == [3, 2]


def test_a_reply_that_goes_on_after_its_end_can_be_cut_short_again() -> None:
    recorder = TurnRecorder()
    recorder.observe(packet(Token(text="a", last=True)), 0)
    recorder.observe(packet(Token(text="b")), 0)
    recorder.interrupt(2)
    assert recorder.turns[1].interrupted


def test_what_an_interrupt_costs_does_not_depend_on_the_turns_before() -> None:
    recorder = TurnRecorder()
    begin(recorder, *range(1, 10_001))
    recorder.interrupt(10_001)
    assert recorder._open == []


def test_turns_that_began_or_changed_are_told_once() -> None:
    recorder = TurnRecorder()
    begin(recorder, 1)
    assert recorder.changed() == []
    recorder.track()
    begin(recorder, 2, 3)
    assert [turn.epoch for turn in recorder.changed()] == [2, 3]
    recorder.fail(1, "no")
    recorder.interrupt(3)
    assert [turn.epoch for turn in recorder.changed()] == [1, 2]
    assert recorder.changed() == []


def test_a_turn_that_was_forgotten_is_told_no_more() -> None:
    recorder = TurnRecorder(capacity=1)
    recorder.track()
    begin(recorder, 1, 2)
    assert [turn.epoch for turn in recorder.changed()] == [2]


def test_a_restored_recorder_goes_on_where_the_other_was() -> None:
    before, after = TurnRecorder(capacity=3), TurnRecorder(capacity=3)
    begin(before, 1, 2, 3, 4)
    before.observe(packet(Token(text="", last=True), epoch=3), 0)
    after.restore(before.turns.values(), before.forgotten)
    for recorder in (before, after):
        recorder.interrupt(9)
        begin(recorder, 9)
    assert (after.turns, after.forgotten) == (before.turns, before.forgotten)


def test_a_reply_that_never_ends_is_kept_to_a_bound_and_says_that_it_was_cut() -> None:
    recorder = TurnRecorder()
    for _ in range(LONGEST):
        recorder.observe(packet(Token(text="ab")), 0)
    assert recorder.turns[1].reply == "ab" * (LONGEST // 2) + "…"


def test_utterances_that_never_end_do_not_pile_up() -> None:
    recorder = TurnRecorder()
    for epoch in range(1, 1000):
        for _ in range(PIECES // 100):
            recorder.observe(packet(Speech(audio=SILENCE, event=SpeechEvent.CONTINUE), epoch=epoch), 0)
    for _ in range(2 * PIECES):
        recorder.observe(packet(Speech(audio=SILENCE, event=SpeechEvent.CONTINUE), epoch=1000), 0)
    assert len(recorder._heard) == LISTENED_TO
    assert len(recorder._heard[1000]) == PIECES
