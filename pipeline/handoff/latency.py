"""How soon a backend answers, learned from its answers (after EdgeReasoning, arXiv 2511.01866).

    t_first = c + a · (n_in - n_cached)        c: the way there and back, queues; a: reading one token of the prompt
    t       = t_first + n_out · t_token

Theory of operation. c and a are fitted by recursive least squares with forgetting, on t_first in ms and tokens in
hundreds, so that both are of one size. What is left over, as a ratio of measured to expected, is kept for the last
`KEPT` answers: their quantiles are the model's uncertainty, and scale with the expectation as real tails do. Two
answers in a row beyond anything seen mean that something has changed (another link, another load): then the fit is
opened up again and the ratios are forgotten, so that the third answer is believed more than all before.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

FORGETTING = 0.93
KEPT = 60
CLAUSE_TOKENS = 8
"""Tokens of a first clause, as `speech.sentences` cuts it."""
_HUNDRED = 100.0
_OPEN = 1e4
_FLOOR_MS = 1.0


@dataclass(slots=True)
class LatencyModel:
    """Of one backend. `first_ms`, `per_hundred_ms`, `token_ms`: what is believed before anything was measured."""

    first_ms: float = 500.0
    per_hundred_ms: float = 50.0
    token_ms: float = 40.0
    answers: int = 0
    _covariance: tuple[float, float, float] = (_OPEN, 0.0, _OPEN)
    _ratios: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    _surprises: int = 0

    def observe(self, new_tokens: int, first_ms: float, tokens: int = 0, whole_ms: float = 0.0) -> None:
        """An answer came. `new_tokens`: of the prompt, without what was cached; `tokens`: of the answer, in `whole_ms`.

        Values that cannot be (negative, not finite) are ignored.
        """
        if not (0 <= first_ms < 1e7 and 0 <= new_tokens < 10_000_000):
            return
        ratio = first_ms / max(_FLOOR_MS, self.expected_first_ms(new_tokens))
        self._notice(ratio)
        self._fit(new_tokens / _HUNDRED, first_ms)
        self.answers += 1
        if self.answers > 1:
            self._ratios.append(ratio)
        if tokens > 1 and whole_ms > first_ms:
            measured = (whole_ms - first_ms) / (tokens - 1)
            self.token_ms += (measured - self.token_ms) * (0.5 if self.answers < 4 else 0.2)

    def expected_first_ms(self, new_tokens: int) -> float:
        """When the first token is expected."""
        return max(_FLOOR_MS, self.first_ms + self.per_hundred_ms * new_tokens / _HUNDRED)

    def first_ms_at(self, share: float, new_tokens: int) -> float:
        """By when the first token comes in `share` (0…1) of all cases; twice the expectation until enough is known."""
        expected = self.expected_first_ms(new_tokens)
        if len(self._ratios) < 5:
            return 2.0 * expected
        ordered = sorted(self._ratios)
        place = share * (len(ordered) + 1) - 1  # between order statistics, for the next sample to come
        low = min(len(ordered) - 1, max(0, int(place)))
        high = min(len(ordered) - 1, low + 1)
        return expected * (ordered[low] + (ordered[high] - ordered[low]) * min(1.0, max(0.0, place - low)))

    def expected_clause_ms(self, new_tokens: int, clause_tokens: int = CLAUSE_TOKENS) -> float:
        """When a first clause is expected to be whole."""
        return self.expected_first_ms(new_tokens) + self.token_ms * (clause_tokens - 1)

    def in_time(self, within_ms: float, new_tokens: int, clause_tokens: int = CLAUSE_TOKENS) -> float:
        """The share of answers whose first clause is expected within `within_ms`, 0…1, never quite either."""
        expected, rest = self.expected_first_ms(new_tokens), self.token_ms * (clause_tokens - 1)
        ratios = self._ratios or (0.5, 1.0, 2.0)
        made = sum(expected * ratio + rest <= within_ms for ratio in ratios)
        return (made + 0.5) / (len(ratios) + 1)

    def _notice(self, ratio: float) -> None:
        """Open the fit again where answers are beyond anything seen."""
        beyond = len(self._ratios) >= 5 and not 0.6 * min(self._ratios) <= ratio <= 1.6 * max(self._ratios)
        self._surprises = self._surprises + 1 if beyond else 0
        if self._surprises >= 2:
            self._surprises = 0
            self._covariance = (_OPEN, 0.0, _OPEN)
            self._ratios.clear()

    def _fit(self, hundreds: float, first_ms: float) -> None:
        p00, p01, p11 = self._covariance
        g0, g1 = p00 + p01 * hundreds, p01 + p11 * hundreds
        denominator = FORGETTING + g0 + g1 * hundreds
        k0, k1 = g0 / denominator, g1 / denominator
        error = first_ms - (self.first_ms + self.per_hundred_ms * hundreds)
        self.first_ms = max(0.0, self.first_ms + k0 * error)
        self.per_hundred_ms = max(0.0, self.per_hundred_ms + k1 * error)
        self._covariance = (
            min(_OPEN, (p00 - k0 * g0) / FORGETTING),
            (p01 - k0 * g1) / FORGETTING,
            min(_OPEN, (p11 - k1 * g1) / FORGETTING),
        )
