"""Whether following the regions helps the viewer, judged by how sure it is, so that wrong ones cost a second or two.

    state    event                                             next     effect
    FOLLOW   `unsure` answers in a row unsure, regions used    EVEN     the picture is coded evenly, to compare
    FOLLOW   sure, or no regions in use                        FOLLOW
    EVEN     two answers, surer than those before              EVEN     regions are left alone for `rest`, doubled each
                                                                        time, then tried again
    EVEN     two answers, no surer than those before           FOLLOW   the rate was too low, not the regions wrong: not
                                                                        asked again for `rest`, doubled each time
    any      a new question                                    FOLLOW   everything forgotten

Without answers nothing changes: regions are followed, and fade by themselves.
"""

from __future__ import annotations

from enum import Enum

_S = 1_000_000_000
_LONGEST_NS = 60 * _S
_BETTER = 0.05


class TrustState(Enum):
    """See the table above."""

    FOLLOW = "follow"
    EVEN = "even"


class Trust:
    """For one stream. Tell it every answer of the viewer; `follows` says whether to use regions now.

    `unsure`: beside a rate controller take more than two, since an unsure answer may also mean too low a rate, and that
    is to be tried first.
    """

    def __init__(self, *, threshold: float = 0.8, unsure: int = 2, rest_s: float = 4.0) -> None:
        self._threshold = threshold
        self._patience = unsure
        self._rest_ns = round(rest_s * _S)
        self.ask()

    def ask(self) -> None:
        """A new question."""
        self.state = TrustState.FOLLOW
        self._unsure: list[float] = []
        self._even: list[float] = []
        self._before = 0.0
        self._wait_ns = self._rest_ns
        self._until_ns: int | None = None

    def follows(self, now_ns: int) -> bool:
        """Whether regions are to be used; a rest that is over, or a clock that went back, ends here."""
        if self._until_ns is not None and not self._until_ns - _LONGEST_NS <= now_ns < self._until_ns:
            self._until_ns = None
            if self.state is TrustState.EVEN:
                self.state, self._unsure, self._even = TrustState.FOLLOW, [], []
        return self.state is TrustState.FOLLOW

    def answer(self, confidence: float, used: bool, now_ns: int) -> None:
        """How sure the viewer was, 0…1, of a picture that did (`used`) or did not follow regions."""
        following = self.follows(now_ns)
        if following and used and self._until_ns is None:
            self._unsure = [*self._unsure, confidence] if confidence < self._threshold else []
            if len(self._unsure) >= self._patience:
                self._before = sum(self._unsure) / len(self._unsure)
                self.state, self._unsure, self._even = TrustState.EVEN, [], []
        elif not following and not used and self._until_ns is None:
            self._even.append(confidence)
            if len(self._even) >= 2:
                better = sum(self._even) / len(self._even) > self._before + _BETTER
                self.state = TrustState.EVEN if better else TrustState.FOLLOW
                self._until_ns = now_ns + self._wait_ns
                self._wait_ns = min(_LONGEST_NS, 2 * self._wait_ns)
