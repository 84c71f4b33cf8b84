"""How many conversations at once this machine holds, learned from how soon answers are heard.

Theory of operation. Processor time says when a machine is full only if one knows what a turn needs, which differs from
pipeline to pipeline. What people feel is the time to the first sound of an answer; so that is kept, by how many were
talking. The p95 in the smallest crowd known says how it can be; a turn is slow that took more than `WITHIN` times that.
A crowd is too large once more than a twentieth of its turns are slow, that is, once its own p95 is. One slow turn is an
accident; two are needed.

event                                  what it does
turn, `n` talk, n above the limit      nothing: that crowd is known
turn, `n` talk                         kept, the last `KEPT` for each n
… and n is too large now               limit n − 1 for `HOLD_S`, or for twice as long as the last time it was n − 1,
                                       up to `LONGEST_HOLD_S`; the turns of n and more are forgotten
time                                   the limit ends: one more is tried

So the limit is found by exceeding it for a moment, once in ten minutes and ever more rarely. No running conversation is
ended for it. No clock inside: times are arguments, seconds of any one clock.
"""

from __future__ import annotations

from collections import deque

from thalweg.pipeline.observing.quantile import quantile

WITHIN = 1.5
SHARE = 0.05
SLOW = 2
TO_COMPARE = 5
KEPT = 60
HOLD_S = 600.0
LONGEST_HOLD_S = 7200.0


class Capacity:
    """Told of every turn, it says how many may talk at once."""

    def __init__(self) -> None:
        self._turns: dict[int, deque[float]] = {}
        self._limit = 0
        self._until_s = -float("inf")
        self._hold_s = HOLD_S

    def note(self, talking: int, first_audio_s: float, now_s: float) -> None:
        """An answer was heard `first_audio_s` after the end of speech, while `talking` ≥ 1 conversations went on."""
        limit = self.limit(now_s)
        if limit is not None and talking > limit:
            return
        turns = self._turns.setdefault(talking, deque(maxlen=KEPT))
        turns.append(first_audio_s)
        usual_s = self._usual_s()
        slow = sum(turn_s > WITHIN * usual_s for turn_s in turns)
        if talking > 1 and slow >= SLOW and slow > SHARE * len(turns):
            again = talking - 1 == self._limit
            self._hold_s = min(2 * self._hold_s, LONGEST_HOLD_S) if again else HOLD_S
            self._limit, self._until_s = talking - 1, now_s + self._hold_s
            self._turns = {n: kept for n, kept in self._turns.items() if n < talking}

    def limit(self, now_s: float) -> int | None:
        """How many may talk, at least 1; None where no crowd is known to be too large."""
        return self._limit if now_s < self._until_s else None

    def _usual_s(self) -> float:
        """p95 of the time to first sound in the smallest crowd with turns enough to compare with; else no bound."""
        known = [n for n, turns in self._turns.items() if len(turns) >= TO_COMPARE]
        if not known:
            return float("inf")
        return quantile(self._turns[min(known)], 0.95)
