"""Whether to follow the regions or to code evenly, judged by what the viewer makes of either.

Theory of operation. There are two ways of coding a picture, and of either what the viewer said last. As long as it is
sure, nothing changes. Where it is not, the other way is tried, and the better one kept; so a wrong region harms where
even coding could not be read either, and for the second or two that a trial takes.

    state    event                                             next
    SETTLED  sure, or the answer is about the other way        SETTLED
    SETTLED  `unsure` unsure answers in a row                  TRIAL     the other way
             … within the rest after a trial                   SETTLED
    TRIAL    a sure answer about the way on trial              SETTLED   with it; not tried again for `rest`
    TRIAL    two unsure ones, the last surer than before       SETTLED   with it; `rest`, doubled each time
    TRIAL    two unsure ones, no surer                         SETTLED   with the way before; `rest`, doubled each time
    any      a new question                                    SETTLED   with the way that was last found better; of
                                                                         answers and rests nothing is remembered

Without answers nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

_S = 1_000_000_000
_LONGEST_NS = 60 * _S
_BETTER = 0.05
_TRIED = 2


class RegionBenefitState(Enum):
    """See the table above."""

    SETTLED = "settled"
    TRIAL = "trial"


TRANSITIONS: Mapping[RegionBenefitState, frozenset[RegionBenefitState]] = {
    RegionBenefitState.SETTLED: frozenset({RegionBenefitState.TRIAL}),
    RegionBenefitState.TRIAL: frozenset({RegionBenefitState.SETTLED}),
}
"""The table above as data: state → possible next states, without itself."""


class RegionBenefit:
    """For one stream. Tell it every answer of the viewer; `follows` says whether to use regions now.

    `begin`: whether regions are followed before the first answer. `unsure`: one is quicker to leave a wrong region and
    tries even coding more often where a right one is hard to read; beside a rate controller take more than two, since
    an unsure answer may also mean too low a rate, and that is to be tried first.
    """

    def __init__(self, *, threshold: float = 0.8, unsure: int = 2, rest_s: float = 4.0, begin: bool = True) -> None:
        self._threshold = threshold
        self._patience = unsure
        self._rest_ns = round(rest_s * _S)
        self._following = begin
        self.state = RegionBenefitState.SETTLED
        self.ask()

    def ask(self) -> None:
        """A new question; a trial that is not over has shown nothing."""
        if self.state is RegionBenefitState.TRIAL:
            self._following = not self._following
        self.state = RegionBenefitState.SETTLED
        self._unsure: list[float] = []
        self._before = 0.0
        self._wait_ns = self._rest_ns
        self._until_ns: int | None = None

    def follows(self, now_ns: int) -> bool:
        """Whether regions are to be used; a rest that is over, or a clock that went back, ends here."""
        if self._until_ns is not None and not self._until_ns - _LONGEST_NS <= now_ns < self._until_ns:
            self._until_ns = None
        return self._following

    def answer(self, confidence: float, used: bool, now_ns: int) -> None:
        """How sure the viewer was, 0…1, of a picture that did (`used`) or did not follow regions."""
        if self.follows(now_ns) is not used:
            return
        if confidence >= self._threshold:
            self._unsure = []
            if self.state is RegionBenefitState.TRIAL:
                self._settle(now_ns, self._rest_ns)
            return
        self._unsure.append(confidence)
        if self.state is RegionBenefitState.SETTLED and self._until_ns is None and len(self._unsure) >= self._patience:
            self._before = self._unsure[-1]
            self.state, self._following, self._unsure = RegionBenefitState.TRIAL, not self._following, []
        elif self.state is RegionBenefitState.TRIAL and len(self._unsure) >= _TRIED:
            if not confidence > self._before + _BETTER:
                self._following = not self._following
            self._settle(now_ns, self._wait_ns)
            self._wait_ns = min(_LONGEST_NS, 2 * self._wait_ns)

    def _settle(self, now_ns: int, wait_ns: int) -> None:
        self.state, self._unsure = RegionBenefitState.SETTLED, []
        self._until_ns = now_ns + wait_ns
