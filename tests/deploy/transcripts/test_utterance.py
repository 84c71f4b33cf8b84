"""Utterances are cut where they can be read, and nothing of them is lost."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.deploy.transcripts.utterance import LINE, LINES, LONGEST_S, Said, Utterance, cues, parts

LONG = (
    "Streams flow to the sea, as everybody knows. What nobody has told us, in all these years, is where the water "
    "comes from; and that is what we are going to look at today."
)


def spoken(text: str, seconds: float, *, timed: bool) -> Utterance:
    """With words of equal length, as recognisers give them: bare, or with a space before."""
    bare = text.split()
    each = seconds / max(1, len(bare))
    words = tuple(Said(f" {word}", 10 + i * each, 10 + (i + 1) * each) for i, word in enumerate(bare))
    return Utterance(10.0, 10.0 + seconds, text, words if timed else ())


@pytest.mark.parametrize("timed", [False, True])
def test_a_long_utterance_is_cut_at_its_marks(timed: bool) -> None:
    assert [cue.text.replace("\n", " ") for cue in cues(spoken(LONG, 14.0, timed=timed))] == [
        "Streams flow to the sea, as everybody knows.",
        "What nobody has told us, in all these years, is where the water comes from;",
        "and that is what we are going to look at today.",
    ]


def test_times_of_cues_are_those_of_their_words() -> None:
    found = list(cues(spoken(LONG, 14.0, timed=True)))
    assert found[0].start_s == 10.0
    assert found[0].end_s == pytest.approx(10 + 8 * 14 / len(LONG.split()))
    assert found[-1].end_s == pytest.approx(24.0)


def test_a_slow_speaker_gets_a_cue_before_it_stands_too_long() -> None:
    found = list(cues(spoken("one two three four", 20.0, timed=True)))
    assert [cue.text for cue in found] == ["one", "two", "three", "four"]


def test_words_stand_as_the_text_writes_them() -> None:
    words = (Said("hello", 0, 1), Said("world", 1, 2), Said("you", 2, 3))
    found = parts(Utterance(0, 3, "“Hello, world!” said you.", words))
    assert [said.text for said in found] == ["hello ", "world ", "you "]
    found = parts(Utterance(0, 3, "“hello, world!” said you.", words))
    assert [said.text for said in found] == ["“hello, ", "world!” said ", "you."]


def test_languages_without_spaces_stay_without_and_are_cut_all_the_same() -> None:
    text = "今日はとても良い天気ですね。" * 12
    found = list(cues(Utterance(0, 20, text)))
    assert "".join(cue.text.replace("\n", "") for cue in found) == text
    assert all(len(line) <= LINE for cue in found for line in cue.text.split("\n"))


@given(
    st.lists(st.text(st.characters(categories=["L", "P", "N"]), min_size=1, max_size=50), max_size=60),
    st.floats(0.1, 60),
    st.booleans(),
)
def test_nothing_is_lost_and_nothing_is_too_long(words: list[str], seconds: float, timed: bool) -> None:
    utterance = spoken(" ".join(words), seconds, timed=timed)
    found = list(cues(utterance))
    assert "".join("".join(cue.text.split()) for cue in found) == "".join(words)
    assert all(len(cue.text.split("\n")) <= LINES or len(cue.text) > LINE for cue in found)
    assert all(a.start_s <= b.start_s for a, b in pairwise(found))
    assert all(cue.end_s - cue.start_s <= LONGEST_S + 0.2 or cue.text.count(" ") == 0 for cue in found)


@pytest.mark.parametrize("timed", [False, True])
def test_json_reads_back(timed: bool) -> None:
    utterance = spoken(LONG, 14.0, timed=timed)
    again = Utterance.from_json(utterance.as_json())
    assert (again.text, len(again.words), again.start_s) == (utterance.text, len(utterance.words), 10.0)
