"""The end of an utterance from two witnesses: the voice has fallen silent, and the decoder has nothing more to say.

Theory of operation. Either alone errs: a pause for thought is silent, and a decoder may be slow. A threshold on silence
has to be long enough for the pauses; together they need not be.

    quiet     loudness is `drop_db` below the loudest so far, or under `floor_db`
    over      something was said, quiet for `quiet_ms` and no new token for `decoder_ms`: said once per utterance
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """Thresholds. Loudness is RMS over what is fed at once, relative to full scale."""

    quiet_ms: float = 200.0
    decoder_ms: float = 320.0
    drop_db: float = 25.0
    floor_db: float = -55.0


class Endpoint:
    """The state machine above; one per utterance."""

    def __init__(self, config: EndpointConfig | None = None) -> None:
        self._config = config or EndpointConfig()
        self._loudest_db = -math.inf
        self._quiet_ms = 0.0
        self._over = False

    @property
    def quiet(self) -> bool:
        """Whether the voice is silent now."""
        return self._quiet_ms > 0

    def update(self, samples: NDArray[np.float32], rate: int, since_token_ms: float | None) -> bool:
        """Take the newest audio, and how long ago the last token was (None: nothing said yet); true when it is over."""
        if len(samples):
            level_db = 10 * math.log10(float(np.mean(samples.astype(np.float64) ** 2)) + 1e-12)
            self._loudest_db = max(self._loudest_db, level_db)
            quiet = level_db < max(self._config.floor_db, self._loudest_db - self._config.drop_db)
            self._quiet_ms = self._quiet_ms + len(samples) * 1000 / rate if quiet else 0.0
        if self._over or since_token_ms is None:
            return False
        self._over = self._quiet_ms >= self._config.quiet_ms and since_token_ms >= self._config.decoder_ms
        return self._over

    def snapshot(self) -> dict[str, Any]:
        """The state between two calls."""
        return {"loudest_db": self._loudest_db, "quiet_ms": self._quiet_ms, "over": self._over}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._loudest_db, self._quiet_ms, self._over = state["loudest_db"], state["quiet_ms"], state["over"]
