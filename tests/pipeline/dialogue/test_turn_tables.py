"""The transition tables of turn taking, walked against the code."""

from __future__ import annotations

import random
from collections import defaultdict

from thalweg.pipeline.dialogue.turn_tables import ANSWER, VOICE
from thalweg.pipeline.dialogue.turn_taking import AnswerState, TurnTaking, VoiceState
from thalweg.pipeline.duration import MS
from thalweg.pipeline.payload import Transcript

TEXTS = ("", "okay", "what is the time", "stop")


def voices(talk: TurnTaking, epochs: range) -> dict[int, VoiceState]:
    """What each stretch is now; QUIET where there is none."""
    known = {stretch.epoch: stretch.voice for stretch in talk._stretches}
    return {epoch: known.get(epoch, VoiceState.QUIET) for epoch in epochs}


def step(talk: TurnTaking, rng: random.Random, newest: int, now_ns: int) -> tuple[str, int]:
    """Do something that may happen; its name, and the newest epoch."""
    epoch = max(1, newest - rng.randrange(3))
    name = rng.choice([*VOICE, *["voice"] * 6, *["transcript"] * 3, *["playing"] * 2])
    text = rng.choice(TEXTS)
    if name == "voice":
        newest += rng.random() < 0.1
        talk.voice(rng.choice([epoch, newest]), rng.choice([0.0, 0.1]), 200 * MS, now_ns)
    elif name == "transcript":
        final = rng.random() < 0.4
        stable = len(text) if final else 0
        talk.transcript(epoch, Transcript(text=text, final=final, stable_chars=stable), "", now_ns)
    elif name == "say":
        newest += 1
        talk.say(newest, "written")
    elif name == "stop":
        talk.stop()
    elif name == "voice_ended":
        talk.voice_ended(epoch, now_ns)
    elif name == "passed":
        talk.passed(now_ns)
    else:
        getattr(talk, name)(epoch)
    return name, newest


def walk() -> tuple[dict[tuple[str, VoiceState], set[VoiceState]], dict[tuple[str, AnswerState], set[AnswerState]]]:
    """What was seen to become of what, in many conversations of random events."""
    seen_voices: dict[tuple[str, VoiceState], set[VoiceState]] = defaultdict(set)
    seen_answers: dict[tuple[str, AnswerState], set[AnswerState]] = defaultdict(set)
    rng = random.Random(7)
    for _ in range(1500):
        talk, newest, now_ns = TurnTaking(), 1, 0
        for _ in range(40):
            now_ns += rng.choice([30, 300, 5000]) * MS
            epochs = range(max(1, newest - 4), newest + 3)
            before, answer = voices(talk, epochs), talk.answer
            name, newest = step(talk, rng, newest, now_ns)
            for epoch, after in voices(talk, epochs).items():
                seen_voices[name, before[epoch]].add(after)
            seen_answers[name, answer].add(talk.answer)
    return seen_voices, seen_answers


def test_whatever_happens_is_in_the_tables_and_all_that_is_in_them_happens() -> None:
    seen_voices, seen_answers = walk()
    assert {(name, before): set(after) for name, row in VOICE.items() for before, after in row.items()} == seen_voices
    assert {(name, before): set(after) for name, row in ANSWER.items() for before, after in row.items()} == seen_answers
