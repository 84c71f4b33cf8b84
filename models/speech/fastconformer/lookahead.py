"""Choosing how far to look ahead, chunk by chunk, within a bound (in the spirit of ANCAT, arXiv 2305.04159).

Theory of operation. A longer look-ahead costs latency and buys certainty; a cache-aware encoder trained for several
may change between them at any chunk border (the caches hold frames, not chunks). So: be short while the decoder is
sure, longer while it is not, and shortest when the voice has stopped, because then only the end is still waited for.

    state       after a chunk                                     next
    level i     uncertainty ≥ `raise_at`                          level i + 1, if there is one within the bound
    level i     uncertainty ≤ `lower_at`, `calm` times in a row   level i − 1
    any         no voice                                          level 0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.models.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveConfig:
    """Thresholds of the policy. Uncertainty is one minus the mean probability of the best class, 0…1."""

    raise_at: float = 0.15
    lower_at: float = 0.05
    calm: int = 3


class AdaptiveLookahead:
    """The state machine above. `lookahead` (frames) is what the next chunk takes."""

    def __init__(
        self, lookaheads: Sequence[int], *, frame_ms: float, bound_ms: float, config: AdaptiveConfig | None = None
    ) -> None:
        """Raises ModelError where no look-ahead is within the bound."""
        self._levels = sorted(r for r in lookaheads if r * frame_ms <= bound_ms)
        if not self._levels:
            raise ModelError(f"no look-ahead of this model is within {bound_ms:g} ms")
        self._config = config or AdaptiveConfig()
        self._level = 0
        self._calm = 0

    @property
    def lookahead(self) -> int:
        """Frames that the next chunk looks ahead."""
        return self._levels[self._level]

    def update(self, *, uncertainty: float, voice: bool) -> int:
        """A chunk was decoded; returns the look-ahead of the next."""
        calm = uncertainty <= self._config.lower_at
        self._calm = self._calm + 1 if calm else 0
        if not voice:
            self._level = self._calm = 0
        elif uncertainty >= self._config.raise_at:
            self._level = min(self._level + 1, len(self._levels) - 1)
        elif self._calm >= self._config.calm:
            self._level = max(0, self._level - 1)
            self._calm = 0
        return self.lookahead

    def snapshot(self) -> dict[str, Any]:
        """The state between two chunks."""
        return {"level": self._level, "calm": self._calm}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._level, self._calm = state["level"], state["calm"]
