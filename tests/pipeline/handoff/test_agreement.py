"""Which answers agree."""

from __future__ import annotations

import pytest

from thalweg.pipeline.handoff.agreement import agree, first_sentence


@pytest.mark.parametrize(
    ("given", "other", "same"),
    [
        ("Paris.", "The capital of France is Paris. It lies on the Seine.", True),
        ("The capital is Lyon.", "The capital of France is Paris.", False),
        ("It is Paris, on the Seine", "Paris", True),
        ("", "Paris", False),
        ("Lyon", "The capital of France.", True),
        ("Lyon", "", True),
    ],
)
def test_what_is_new_in_the_other_is_looked_for(given: str, other: str, same: bool) -> None:
    assert agree("What is the capital of France?", given, other) is same


def test_a_sentence_ends_behind_its_mark_and_not_within_a_number() -> None:
    assert first_sentence(" It is 1.5 m. Or so.") == "It is 1.5 m."
    assert first_sentence("It is 1.") == "It is 1."
