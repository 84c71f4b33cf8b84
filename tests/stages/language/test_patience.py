"""How long an answer is waited for."""

from __future__ import annotations

from thalweg.models.language.backend import Progress, Text, Thinking, Usage
from thalweg.stages.language.patience import PINGS, Patience

S = 1_000_000_000


def test_the_first_sign_is_waited_for_as_long_as_each_further_one() -> None:
    patience = Patience(5 * S, 100 * S)
    assert patience.until_ns == 105 * S
    patience.heard(Text("a"), 104 * S)
    assert patience.until_ns == 109 * S


def test_thoughts_are_a_sign_that_words_are_coming() -> None:
    patience = Patience(5 * S, 0)
    for second in range(4, 400, 4):
        patience.heard(Thinking("hm"), second * S)
    assert patience.until_ns == 401 * S


def test_pings_are_waited_through_but_not_without_end() -> None:
    patience = Patience(5 * S, 0)
    for second in range(4, 400, 4):
        patience.heard(Progress("ping"), second * S)
    assert patience.until_ns == PINGS * 5 * S
    assert patience.pinged


def test_after_a_word_pings_count_anew() -> None:
    patience = Patience(5 * S, 0)
    patience.heard(Progress("ping"), 4 * S)
    patience.heard(Text("a"), 20 * S)
    patience.heard(Progress("ping"), 24 * S)
    assert patience.until_ns == 29 * S


def test_figures_are_no_reason_to_wait_longer_than_pings() -> None:
    patience = Patience(5 * S, 0)
    for second in range(0, 400, 4):
        patience.heard(Usage(), second * S)
    assert patience.until_ns == PINGS * 5 * S
