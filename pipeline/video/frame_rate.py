"""How many frames to send per slot of consumption, so that losses need no repair (after Artic, arXiv 2507.10510).

A viewer that consumes one frame per slot is served if at least one of the slot's k frames arrives whole and in time;
an earlier one stands in for a lost one, and nothing is sent again. With frames lost independently with chance p that
is 1 − p^k. Losses that come in bursts hit neighbours together: with q the chance that a frame is lost after a lost
one, it is 1 − p · q^(k−1), and q is measured too. The smallest k that reaches the target is sent.

    p = 5 %, q = 5 %, target 99 % → k = 2;   p = 20 %, q = 20 % → 3;   p = 5 %, q = 50 % → 4
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

MOST = 8
_MEMORY = 200
_RECENT = 30


def frames_per_slot(miss: float, again: float, target: float, most: int = MOST) -> int:
    """The smallest k ≤ `most` with 1 − miss · again^(k−1) ≥ `target`; `most` where none reaches it."""
    failing = min(1.0, max(0.0, miss))
    for k in range(1, most):
        if failing <= 1 - target:
            return k
        failing *= min(1.0, max(0.0, again))
    return most


class SlotFrames:
    """Measures which frames were missed, and says how many to send. Nothing heard yet: three, to be safe.

    `target`: share of slots to be served. Losses are known late and from few frames, so it is above what is hoped for.
    """

    def __init__(self, *, target: float = 0.995, most: int = MOST) -> None:
        self._target = target
        self._most = most
        self._fates: deque[bool] = deque(maxlen=_MEMORY)

    def frame(self, in_time: bool) -> None:
        """One frame's fate, in the order they were sent: whole and in time, or not."""
        self._fates.append(not in_time)

    @property
    def miss(self) -> float:
        """Chance 0…1 that a frame is missed: of the last 30 or of the last 200, whichever is worse."""
        recent = list(self._fates)[-_RECENT:]
        return max(_share(sum(recent), len(recent)), _share(sum(self._fates), len(self._fates)))

    @property
    def again(self) -> float:
        """Chance that a frame is missed after a missed one; never less than `miss`."""
        fates = list(self._fates)
        after = [later for earlier, later in pairwise(fates) if earlier]
        return max(self.miss, _share(sum(after), len(after), prior=self.miss))

    @property
    def count(self) -> int:
        """Frames to send per slot."""
        if not self._fates:
            return min(3, self._most)
        return frames_per_slot(self.miss, self.again, self._target, self._most)


def _share(hits: int, of: int, prior: float = 0.01, weight: float = 2.0) -> float:
    return (hits + prior * weight) / (of + weight)
