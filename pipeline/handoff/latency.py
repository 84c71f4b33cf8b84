"""How soon a backend answers, learned from its answers (after EdgeReasoning, arXiv 2511.01866).

    t_first = c + a · (n_in - n_cached)        c: the way there and back, queues; a: reading one token of the prompt
    t       = t_first + n_out · t_token

Theory of operation. c and a are fitted by recursive least squares with forgetting, on logarithms: errors grow with what
is expected and are lopsided, and half of the answers come before what is expected then, where a mean would be later. It
begins with what is believed beforehand: two noisy answers do not make a slope. How much of a prompt will be new is
expected by what of it the backend was asked before in the same conversation, and by the share of that which it had kept
lately; one that does not say is taken to read all of it. What is left over, as a ratio of measured to expected, is kept
for the last `KEPT` answers: their quantiles are the model's uncertainty, and scale with the expectation as real tails
do. Before there are `MANY`, they are taken for log-normal, with a spread of `SPREAD` believed beforehand as if seen
four times. A change (another link, another load) shows in a cumulative sum of what is off on one side: then the ratios
are forgotten, the fit is opened up again and begins with those answers since that sum began to grow that are off like
the last, so that they are believed more than all before.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from statistics import NormalDist, fmean

FORGETTING = 0.98
KEPT = 40
MANY = 20
SPREAD = 0.3
CLAUSE_TOKENS = 10
"""Tokens of a first clause, as `speech.sentences` cuts it."""
_HUNDRED = 100.0
_OPEN = (500.0**2, 0.0, 60.0**2)
"""How far off what is believed of c and a may be: ms², and (ms per hundred tokens)²."""
_NOISE = 0.2
_USUAL, _MOST_OFF, _TOO_MUCH = 0.75, 2.6, 3.0
"""Of a cumulative sum (Page 1954), in standard deviations: what each answer may be off, what counts of it at most, and
when it is a change. Two answers in a row that can hardly be are one; one alone never is.
"""
_ALIKE = 0.75
"""Answers before a change was noticed belong to it where they are off by this share of what the last is, or more."""
_SLOPE = 0.3
"""Where something has changed, it is mostly the way there: how much of `a` is doubted then."""
_FLOOR_MS = 1.0
_REMEMBERED = 0.8
_KEPT_NEWEST = 0.5
"""How much the newest answer says of what will be kept."""
_ENOUGH = 0.1
"""The share of a prompt that must have been asked before to say anything of what is kept."""


@dataclass(slots=True)
class LatencyModel:
    """Of one backend. `first_ms`, `per_hundred_ms`, `token_ms`: what is believed before anything was measured.
    `kept`: the share (0…1) of what it is asked again that it is expected not to read again.
    `paused_ms`: the longest pause within its last answers, between two pieces of text.
    """

    first_ms: float = 500.0
    per_hundred_ms: float = 50.0
    token_ms: float = 40.0
    answers: int = 0
    kept: float = 0.0
    paused_ms: float = 0.0
    _open: tuple[float, float, float] = _OPEN
    _covariance: tuple[float, float, float] = _OPEN
    _ratios: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    _above: float = 0.0
    _below: float = 0.0
    _since: deque[tuple[float, float, float]] = field(default_factory=lambda: deque(maxlen=8))

    def observe(
        self,
        new_tokens: int,
        first_ms: float,
        tokens: int = 0,
        whole_ms: float = 0.0,
        *,
        cached_tokens: int | None = None,
        repeated: float = 0.0,
    ) -> None:
        """An answer came. `new_tokens`: of the prompt, without the `cached_tokens` (None: that is not known); `tokens`:
        of the answer, in `whole_ms`; `repeated`: the share (0…1) of the prompt that it was asked before.

        Values that cannot be (negative, not finite) are ignored.
        """
        if not (0 <= first_ms < 1e7 and 0 <= new_tokens < 10_000_000):
            return
        hundreds = new_tokens / _HUNDRED
        ratio = first_ms / self._expected_ms(hundreds)
        self._notice(ratio, hundreds, first_ms)
        self._fit(hundreds, first_ms)
        if cached_tokens is not None and 0 < new_tokens + cached_tokens < 10_000_000 and cached_tokens >= 0:
            share = cached_tokens / (new_tokens + cached_tokens)
            if repeated >= _ENOUGH:
                self.kept += (min(1.0, share / repeated) - self.kept) * _KEPT_NEWEST
        self.answers += 1
        if self.answers > 2:
            self._ratios.append(ratio)
        if tokens > 1 and whole_ms > first_ms:
            measured = (whole_ms - first_ms) / (tokens - 1)
            self.token_ms += (measured - self.token_ms) * (0.5 if self.answers < 4 else 0.2)

    def paused(self, ms: float) -> None:
        """The longest pause within an answer. An earlier one counts for less with each answer."""
        if 0 <= ms < 1e7:
            self.paused_ms = max(ms, self.paused_ms * _REMEMBERED)

    def new_of(self, prompt_tokens: int, repeated_tokens: int) -> int:
        """How many tokens of a prompt it is expected to have to read, where it was asked `repeated_tokens` before."""
        return prompt_tokens - round(min(prompt_tokens, repeated_tokens) * self.kept)

    def expected_first_ms(self, new_tokens: int) -> float:
        """When the first token is expected."""
        return self._expected_ms(new_tokens / _HUNDRED)

    def first_ms_at(self, share: float, new_tokens: int) -> float:
        """By when the first token comes in `share` (between 0 and 1) of all cases."""
        expected = self.expected_first_ms(new_tokens)
        if len(self._ratios) < MANY:
            return expected * math.exp(NormalDist().inv_cdf(share) * self._spread())
        ordered = sorted(self._ratios)
        place = share * (len(ordered) + 1) - 1  # between order statistics, for the next sample to come
        low = min(len(ordered) - 1, max(0, int(place)))
        high = min(len(ordered) - 1, low + 1)
        return expected * (ordered[low] + (ordered[high] - ordered[low]) * min(1.0, max(0.0, place - low)))

    def clause_ms_at(self, share: float, new_tokens: int, clause_tokens: int = CLAUSE_TOKENS) -> float:
        """By when a first clause is whole in `share` of all cases."""
        return self.first_ms_at(share, new_tokens) + self.token_ms * (clause_tokens - 1)

    def in_time(self, within_ms: float, new_tokens: int, clause_tokens: int = CLAUSE_TOKENS) -> float:
        """The share of answers whose first clause is expected within `within_ms`, 0…1, never quite either."""
        expected, rest = self.expected_first_ms(new_tokens), self.token_ms * (clause_tokens - 1)
        if len(self._ratios) < MANY:
            left = max(1e-9, (within_ms - rest) / expected)
            return min(0.999, max(0.001, NormalDist().cdf(math.log(left) / self._spread())))
        made = sum(expected * ratio + rest <= within_ms for ratio in self._ratios)
        return (made + 0.5) / (len(self._ratios) + 1)

    def _expected_ms(self, hundreds: float) -> float:
        return max(_FLOOR_MS, self.first_ms + self.per_hundred_ms * hundreds)

    def _spread(self) -> float:
        """Of the newest ratios' logarithms, from the median step, so that neither a tail nor a change is spread."""
        newest = [math.log(max(1e-3, ratio)) for ratio in islice(reversed(self._ratios), MANY)]
        steps = sorted(abs(one - other) for one, other in pairwise(newest))
        if not steps:
            return SPREAD
        return (4 * SPREAD + len(steps) * 1.05 * steps[len(steps) // 2]) / (4 + len(steps))

    def _notice(self, ratio: float, hundreds: float, first_ms: float) -> None:
        """Open the fit again where the sum of what is off, beyond what is usual, has become too much on one side."""
        whole = math.log(max(1e-3, ratio)) / self._spread()
        off = min(_MOST_OFF, max(-_MOST_OFF, whole))
        self._above, self._below = max(0.0, self._above + off - _USUAL), max(0.0, self._below - off - _USUAL)
        if max(self._above, self._below) == 0.0 or len(self._ratios) < 3:
            self._since.clear()
            return
        if max(self._above, self._below) < _TOO_MUCH:
            self._since.append((whole, hundreds, first_ms))
            return
        self._above = self._below = 0.0
        off_ms = abs(first_ms - self.first_ms - self.per_hundred_ms * hundreds)
        known = max(self._covariance[2], (_SLOPE * self.per_hundred_ms) ** 2)
        self._open = (max(_OPEN[0], 2 * off_ms**2), 0.0, _OPEN[2])
        self._covariance = (self._open[0], 0.0, min(_OPEN[2], known))
        self._ratios.clear()
        news = [(earlier[1], earlier[2]) for earlier in self._since if earlier[0] / whole > _ALIKE]
        self._shift([*news, (hundreds, first_ms)])
        for earlier_hundreds, earlier_ms in news:
            self._fit(earlier_hundreds, earlier_ms)
        self._since.clear()

    def _shift(self, found: Sequence[tuple[float, float]]) -> None:
        """Begin where these answers are in the middle, by their logarithms: none of them is to weigh more for being the
        first."""
        expected = [self._expected_ms(hundreds) for hundreds, _ in found]
        ratios = (ms / each_ms for (_, ms), each_ms in zip(found, expected, strict=True))
        off = math.exp(fmean(math.log(max(1e-3, ratio)) for ratio in ratios))
        self.first_ms = max(0.0, self.first_ms + (off - 1) * fmean(expected))

    def _fit(self, hundreds: float, first_ms: float) -> None:
        """What is expected goes the share `gain` of the way to what was measured, in logarithms."""
        p00, p01, p11 = self._covariance
        g0, g1 = p00 + p01 * hundreds, p01 + p11 * hundreds
        open_ms2 = g0 + g1 * hundreds
        expected_ms = scale_ms = self._expected_ms(hundreds)
        ratio = max(_FLOOR_MS, first_ms) / expected_ms
        for _ in range(2):  # errors grow with what is expected, and that is what will be then
            denominator = FORGETTING * (_NOISE * scale_ms) ** 2 + open_ms2
            gain = open_ms2 / denominator
            scale_ms = expected_ms * ratio**gain
        k0, k1 = g0 / denominator, g1 / denominator
        error = (scale_ms - expected_ms) / gain
        c, a = self.first_ms + k0 * error, self.per_hundred_ms + k1 * error
        p00, p01, p11 = ((p00 - k0 * g0) / FORGETTING, (p01 - k0 * g1) / FORGETTING, (p11 - k1 * g1) / FORGETTING)
        if c < 0:  # neither can be: the other one is what it would be if this one were known to be 0
            c, a = 0.0, a - c * p01 / max(1e-9, p00)
        if a < 0:
            c, a = c - a * p01 / max(1e-9, p11), 0.0
        self.first_ms, self.per_hundred_ms = max(0.0, c), a
        f0, f1 = (math.sqrt(min(1.0, most / max(1e-9, p))) for most, p in ((self._open[0], p00), (self._open[2], p11)))
        self._covariance = (p00 * f0 * f0, p01 * f0 * f1, p11 * f1 * f1)  # bounded, and still a covariance
