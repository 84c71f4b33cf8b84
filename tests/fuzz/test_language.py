"""A few of the replies that `python -m tests.fuzz.language` tries by the hundred thousand, others in every run."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.language import attempt
from thalweg.deploy.testing import run_virtual


@settings(max_examples=25)
@given(st.integers(0, 2**62))
def test_whatever_a_server_sends_nothing_thought_is_said_and_the_next_turn_works(seed: int) -> None:
    _, wrong = run_virtual(attempt(range(seed, seed + 5)))
    assert wrong == []


def test_every_kind_of_fault_is_tried() -> None:
    kinds, wrong = run_virtual(attempt(range(250)))
    assert wrong == []
    assert set(kinds) == {
        "none", "broken_off", "error", "silent", "left_open", "garbage", "giant", "reason", "refused"
    }  # fmt: skip
