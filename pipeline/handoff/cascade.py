"""Whether a small model's answer is good enough: decided at its first clause, before a word of it is said.

Its score is the lowest log-probability among the first `CLAUSE` tokens: a low quantile, since a mean is biased by
length (Gupta et al., ICLR 2024). From which score on an answer is taken is set by conformal risk control (Angelopoulos
et al., arXiv 2208.02814, section 2): of n answers whose verdicts are known, the lowest threshold at which

    (answers that were taken and wrong + 1) / (n + 1)  ≤  risk

The bound holds on the average of turns like those n, and for no single kind of question.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

CLAUSE = 10


def score(logprobs: Sequence[float]) -> float | None:
    """How sure an answer begins, by the log-probabilities of its tokens; None where there are none that can be."""
    first = [value for value in logprobs[:CLAUSE] if math.isfinite(value) and value <= 0]
    return min(first) if first and len(first) == len(logprobs[:CLAUSE]) else None


def threshold(known: Sequence[tuple[float, bool]], risk: float) -> float:
    """From which score on answers are taken, by (score, whether it was right); infinite where none may be."""
    ordered = sorted(known, reverse=True)
    lowest, wrong = math.inf, 0
    for n, (value, right) in enumerate(ordered):
        wrong += not right
        if wrong + 1 > risk * (len(ordered) + 1):
            break
        if n + 1 == len(ordered) or ordered[n + 1][0] < value:
            lowest = value
    return lowest


def auroc(known: Sequence[tuple[float, bool]]) -> float:
    """How often a right answer has a higher score than a wrong one, ties half; 0.5 where one of them is missing."""
    right, wrong = [s for s, r in known if r], sorted(s for s, r in known if not r)
    if not right or not wrong:
        return 0.5
    won = sum(bisect_left(wrong, one) + bisect_right(wrong, one) for one in right)
    return won / 2 / (len(right) * len(wrong))
