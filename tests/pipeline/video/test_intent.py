"""From words to what is looked for."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.pipeline.video.intent import Kind, by_meaning, by_rules, named_colour


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("What does the sign say?", Kind.TEXT),
        ("read me the price", Kind.TEXT),
        ("is she smiling", Kind.FACE),
        ("How many people are there?", Kind.PERSON),
        ("did it go left or right", Kind.MOTION),
        ("where is the red bag", Kind.COLOUR),
        ("What do you see?", Kind.SALIENT),
    ],
)
def test_words_say_what_to_look_for(words: str, kind: Kind) -> None:
    assert kind in by_rules(words)


def test_half_a_question_may_want_nothing_yet() -> None:
    assert by_rules("and could you") == {}


def test_a_colour_that_is_asked_for_is_not_one_that_is_named() -> None:
    assert named_colour("Which colour is the car?") is None
    assert Kind.COLOUR not in by_rules("what colour is the black thing")


def test_what_stands_out_counts_only_where_nothing_else_is_wanted() -> None:
    assert by_rules("what does this say") == {Kind.TEXT: 1.0}


def test_the_nearest_described_intent_wins_and_a_near_second_comes_along() -> None:
    axes = np.eye(3, dtype=np.float32)
    question = np.array([0.7, 0.68, 0.1], np.float32)
    found = by_meaning(question, [(Kind.TEXT, axes[0]), (Kind.FACE, axes[1]), (Kind.PERSON, axes[2])])
    assert found[Kind.TEXT] == pytest.approx(1.0)
    assert set(found) == {Kind.TEXT, Kind.FACE}


def test_a_question_that_is_near_nothing_wants_nothing() -> None:
    assert by_meaning(np.array([0.1, 0.0], np.float32), [(Kind.TEXT, np.array([1, 0], np.float32))]) == {}
