"""When somebody who has fallen silent is done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.dialogue.completeness import Completeness
from thalweg.pipeline.dialogue.end_of_turn import WAITS, EndAction, EndOfTurn, EndRules
from thalweg.pipeline.duration import MS

FRAME = 32 * MS


def ends_after_ms(sound: float | None, text: str | None, *, late_ms: int = 0, rules: EndRules | None = None) -> int:
    """How long a silence ends the turn where its sound and words are known `late_ms` after the question."""
    end = EndOfTurn(rules or EndRules())
    asked_ms = None
    for i in range(1, 100):
        action = end.silence(i * FRAME, FRAME)
        now_ms = i * 32
        if action is EndAction.END:
            return now_ms
        if action is EndAction.ASK:
            asked_ms = now_ms
        if asked_ms is not None and now_ms >= asked_ms + late_ms:
            if sound is not None:
                end.sounds(end.pause, sound)
            if text is not None:
                end.words(text)
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    ("sound", "text", "least_ms", "most_ms"),
    [
        (0.98, "What is the capital of France?", 224, 256),
        (0.6, "What is the capital of France?", 224, 288),
        (None, "what is the capital of france", 224, 288),
        (None, None, 480, 512),
        (0.98, None, 352, 384),
        (0.6, None, 352, 480),
        (0.05, None, 1300, 1408),
        (0.02, "What is the capital of France?", 1390, 1408),
        (0.04, "What is the capital of France?", 800, 864),
        (0.1, "What is the capital of France?", 224, 288),
        (0.98, "I would like to", 990, 1024),
        (0.05, "I would like to", 1390, 1408),
        (0.98, "We need milk, eggs", 1390, 1408),
        (0.98, "We need milk, eggs, and bread.", 224, 256),
        (0.98, "You can call me at 555-123-4567.", 224, 256),
        (0.98, "You can call me at 555-123-4", 384, 416),
        (0.05, "You can call me at 555-123-4", 800, 832),
        (0.98, "my number is five five", 1390, 1408),
        (0.98, "My number is 305.", 1390, 1408),
        (0.98, "Is it 1984?", 224, 256),
    ],
)
def test_the_wait_follows_from_sound_and_words(
    sound: float | None, text: str | None, least_ms: int, most_ms: int
) -> None:
    assert least_ms <= ends_after_ms(sound, text) <= most_ms


def test_a_judgement_that_comes_late_still_counts() -> None:
    assert ends_after_ms(0.98, "What is it?", late_ms=200) == 480  # it is known in the frame that ends at 448 ms


def test_voice_makes_what_was_asked_about_a_pause_void() -> None:
    end = EndOfTurn(EndRules())
    for i in range(1, 5):
        end.silence(i * FRAME, FRAME)
    asked = end.pause
    end.voice()
    for i in range(10, 13):
        end.silence(i * FRAME, FRAME)
    end.sounds(asked, 0.99)
    assert end.wait_ns == EndRules().unknown_ns


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [("What is it?", 416), ("I would like to", 1600), ("my number is 5 5", 2240)],
)
def test_unknown_moves_all_waits_in_proportion(text: str, expected_ms: int) -> None:
    rules = EndRules(unknown_ns=800 * MS, longest_ns=5_000 * MS)
    assert ends_after_ms(0.98, text, rules=rules) == expected_ms


def test_no_wait_is_longer_than_longest() -> None:
    rules = EndRules(unknown_ns=800 * MS, longest_ns=1_000 * MS)
    assert ends_after_ms(0.01, "my number is 5 5", rules=rules) == 1_024


@given(kind=st.sampled_from(Completeness), less=st.floats(0, 1), more=st.floats(0, 1))
def test_what_sounds_more_complete_never_waits_longer(kind: Completeness, less: float, more: float) -> None:
    less, more = sorted((less, more))
    assert WAITS[kind].at(more) <= WAITS[kind].at(less)


@pytest.mark.parametrize(("language", "expected_ms"), [("", 1_000), ("de", 256)])
def test_english_words_make_no_other_language_wait(language: str, expected_ms: int) -> None:
    end = EndOfTurn(EndRules())
    end.silence(FRAME, FRAME)
    end.sounds(end.pause, 0.98)
    end.words("Mach das Licht an.", language)
    assert end.wait_ns == expected_ms * MS
