"""What `bench endofturn` makes of turns and pauses."""

from __future__ import annotations

import itertools
import random
from typing import Any

from thalweg.deploy.bench.dialogue.endofturn import outcome, policies
from thalweg.deploy.bench.dialogue.endofturn_sets import CALIBRATE, KINDS, REPORT, Split

FRAME_MS = 32


def turn(*stretches: int, sound: float = 0.99, words: str = "What is it?") -> dict[str, Any]:
    """A turn of `stretches` frames, of silence and voice in turn, and what was judged in its pauses."""
    voiced = [n % 2 for n, frames in enumerate(stretches) for _ in range(frames)]
    ends = list(itertools.accumulate(stretches))
    return {"voiced": voiced, "pauses": [{"at": at, "sound": sound, "words": words} for at in ends[1:-1:2]]}


def test_a_turn_that_is_ended_before_its_speaker_goes_on_is_cut_off() -> None:
    assert outcome(turn(5, 20, 12, 20, 100), policies()["300 ms"]) == (True, None)


def test_the_delay_of_a_turn_that_is_not_cut_off_counts_from_its_voice() -> None:
    assert outcome(turn(5, 20, 12, 20, 100), policies()["500 ms"]) == (False, 16 * FRAME_MS)


def test_words_count_from_when_they_are_there() -> None:
    asked = turn(5, 20, 100)
    assert outcome(asked, policies()["sound and words"]) == (False, 9 * FRAME_MS)


def test_twice_the_waits_are_twice_as_long() -> None:
    going_on = turn(5, 20, 200, words="I would like to")
    once, twice = (outcome(going_on, policies()[name])[1] for name in ("sound and words", "ours × 2"))
    assert (once, twice) == (32 * FRAME_MS, 63 * FRAME_MS)


def said_by(split: Split) -> set[str]:
    return {part for n in range(500) for part in split.parts(KINDS[n % len(KINDS)], random.Random(n))}


def test_no_sentence_and_no_voice_that_waits_were_chosen_on_is_reported_on() -> None:
    assert not set(CALIBRATE.accents) & set(REPORT.accents)
    assert not set(CALIBRATE.variants) & set(REPORT.variants)
    digits = "zero one two three four five six seven eight nine"
    shared = said_by(CALIBRATE) & said_by(REPORT)
    assert all(set(part.strip(",.").split()) <= set(digits.split()) for part in shared)
