"""Whether a backend is asked at all: a circuit breaker per backend.

    state      event                                         next
    CLOSED     failed, fewer than `failures` in a row        CLOSED
    CLOSED     failed, `failures` in a row                   OPEN for `pause`, twice as long each time, at most 60 s
    CLOSED     told to wait (`Retry-After`)                  OPEN for so long, at most 120 s
    OPEN       the pause is over                             HALF_OPEN    one question, or a prefill, may try
    HALF_OPEN  answered                                      CLOSED       the pause is short again
    HALF_OPEN  failed                                        OPEN
    HALF_OPEN  the trial was cancelled                       HALF_OPEN    the next one may try
    any        failed for its settings (400, 401, 404)       BROKEN       trying again would change nothing
    BROKEN     settings changed                              CLOSED

A backend comes back between turns only: who holds the conversation asks `allows` when a turn begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

PAUSE_MS, LONGEST_PAUSE_MS, LONGEST_TOLD_MS = 2_000.0, 60_000.0, 120_000.0


class BreakerState(Enum):
    """See the table above."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"
    BROKEN = "broken"


_C, _O, _H, _B = BreakerState
TRANSITIONS: Mapping[str, Mapping[BreakerState, frozenset[BreakerState]]] = {
    "allows": {_C: frozenset({_C}), _O: frozenset({_O, _H}), _H: frozenset({_H}), _B: frozenset({_B})},
    "tries": {state: frozenset({state}) for state in BreakerState},
    "let_go": {state: frozenset({state}) for state in BreakerState},
    "answered": {_C: frozenset({_C}), _O: frozenset({_O}), _H: frozenset({_C}), _B: frozenset({_B})},
    "failed": {_C: frozenset({_C, _O}), _O: frozenset({_O}), _H: frozenset({_O}), _B: frozenset({_B})},
    "misconfigured": {state: frozenset({_B}) for state in BreakerState},
    "settings_changed": {state: frozenset({_C}) for state in BreakerState},
}
"""What may become of a breaker, by the method that is called; a test walks it."""


@dataclass(slots=True)
class Breaker:
    """Of one backend. `failures`: how many in a row open it. `reason`: why it is not closed, for people."""

    failures: int = 2
    state: BreakerState = BreakerState.CLOSED
    reason: str = ""
    opened: int = 0
    _in_a_row: int = 0
    _pause_ms: float = PAUSE_MS
    _until_ms: float = 0.0
    _trying: bool = False

    @property
    def half_open(self) -> bool:
        """Whether it may be back, and has yet to show it."""
        return self.state is _H

    def allows(self, now_ms: float) -> bool:
        """Whether it may be asked now. In HALF_OPEN one may try at a time: see `tries`."""
        if self.state is _O and now_ms >= self._until_ms:
            self.state, self._trying = _H, False
        return self.state is _C or (self.state is _H and not self._trying)

    def tries(self) -> None:
        """It is asked. `answered`, `failed`, `misconfigured` or `let_go` say how that went."""
        self._trying = True

    def let_go(self) -> None:
        """It was asked, and hung up on before it could show anything: a hedge that lost, an interruption."""
        self._trying = False

    def answered(self) -> None:
        """It gave a whole answer, or a useful beginning of one."""
        self._in_a_row, self._trying = 0, False
        if self.state is _H:
            self.state, self.reason, self._pause_ms = _C, "", PAUSE_MS

    def failed(self, now_ms: float, reason: str, retry_after_ms: float | None = None) -> None:
        """It did not. `retry_after_ms`: how long it wants to be left alone; absurd values are cut to 120 s."""
        if self.state in (_O, _B):
            return
        self._in_a_row += 1
        if self.state is _C and self._in_a_row < self.failures and retry_after_ms is None:
            return
        pause_ms = self._pause_ms
        if retry_after_ms is not None and retry_after_ms > 0:
            pause_ms = max(pause_ms, min(retry_after_ms, LONGEST_TOLD_MS))
        self.state, self.reason, self._until_ms = _O, reason, now_ms + pause_ms
        self._pause_ms = min(LONGEST_PAUSE_MS, self._pause_ms * 2)
        self.opened += 1

    def misconfigured(self, reason: str) -> None:
        """It refuses for its settings: it stays out until those change."""
        self.state, self.reason = _B, reason

    def settings_changed(self) -> None:
        """Ask it again as if it were new."""
        self.state, self.reason, self._in_a_row, self._pause_ms = _C, "", 0, PAUSE_MS
