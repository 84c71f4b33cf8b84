"""When a second backend is asked beside a slow first one, and what that may cost.

Asked as early as the first one is later than it is in 95 % of turns, and no later than the second one can still be in
time; never where that has passed already. What a hedge costs in tokens is paid from an allowance: a share of all tokens
that turns take, and at most `MOST` turns' worth of it at a time, so that a bad hour does not double the bill. `ADVANCE`
tokens are available at the start, when no latency has been measured yet.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST = 2.0
ADVANCE = 400.0


def hedge_at_ms(first_p95_ms: float, other_clause_p95_ms: float, within_ms: float) -> float:
    """When to ask the second, ms after the first was asked."""
    latest = within_ms - other_clause_p95_ms
    return first_p95_ms if latest <= 0 else min(first_p95_ms, latest)


@dataclass(slots=True)
class HedgeAllowance:
    """`share` (0…1): of the tokens of all turns. `left`: tokens that hedges may still take."""

    share: float = 0.1
    left: float = ADVANCE
    _turn: float = 0.0

    def turn(self, tokens: int) -> None:
        """A turn took so many tokens, prompt and answer; hedges not counted."""
        self._turn = max(self._turn * 0.9, float(tokens))
        self.left = min(self.left + self.share * tokens, max(ADVANCE, MOST * self._turn))

    def may(self, tokens: int) -> bool:
        """Whether a hedge of so many tokens may be made."""
        return 0 <= tokens <= self.left

    def spend(self, tokens: int) -> None:
        """One was made."""
        self.left -= max(0, tokens)
