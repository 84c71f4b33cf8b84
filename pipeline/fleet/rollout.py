"""What a node runs, from a wish of the hub to a pipeline that stays: fetched, staged, tried, committed or rolled back.

Theory of operation. `Record` is all there is to remember; it is written to the disk after each event and before what
the event demands is done. So a power cut leaves one of the phases below, and `BOOTED` is the first event after it.
Releases are whole and never change; what is run at a start is always a committed one.

    phase        event         next         to do
    RESTING      WANTED        FETCHING     fetch
    FETCHING     FETCHED       STAGED       stage: everything there, checked, forced to the disk
    FETCHING     REFUSED       RESTING      discard
    STAGED       ALLOWED       TRIAL        end what runs, run the candidate, watch its gate
    TRIAL        PASSED        COMMITTING   point `current` at the candidate
    TRIAL        FAILED        RESTING      end it, run the committed one
    COMMITTING   COMMITTED     RESTING      the one before is kept, until the new one has been started once more
    PROVING      PASSED        RESTING      the one before may go
    PROVING      FAILED        COMMITTING   back to the one before
    any          WANTED        FETCHING     a newer generation takes the place of what was under way; not in TRIAL,
                                            COMMITTING and PROVING, which come to their end first
    RESTING      BOOTED        PROVING      where the committed one has not been started since it was committed
    FETCHING     BOOTED        FETCHING     what was fetched so far is good for its beginning
    TRIAL        BOOTED        STAGED       once; the second time it is rolled back: it may be what brings the machine
    PROVING      BOOTED        PROVING      down. Likewise here: the second time back to the one before
    COMMITTING   BOOTED        COMMITTING   once more: pointing twice is pointing once

Generations only rise: one that is not above every one this node has ever accepted is `OLD`, and nothing happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any, Final

from thalweg.pipeline.errors import ThalwegError

TRIES = 2


class Phase(Enum):
    """See the table above."""

    RESTING = "resting"
    FETCHING = "fetching"
    STAGED = "staged"
    TRIAL = "trial"
    COMMITTING = "committing"
    PROVING = "proving"


class RolloutEvent(Enum):
    """See the table above."""

    WANTED = "wanted"
    FETCHED = "fetched"
    REFUSED = "refused"
    ALLOWED = "allowed"
    PASSED = "passed"
    FAILED = "failed"
    COMMITTED = "committed"
    BOOTED = "booted"


class Do(Enum):
    """What the shell has to do after the record was written. RUN: end what runs and run `Record.running`."""

    NOTHING = "nothing"
    FETCH = "fetch"
    RUN = "run"
    POINT = "point"
    DISCARD = "discard"


NEXT: Final[Mapping[tuple[Phase, RolloutEvent], tuple[Phase, Do]]] = {
    (Phase.RESTING, RolloutEvent.WANTED): (Phase.FETCHING, Do.FETCH),
    (Phase.FETCHING, RolloutEvent.WANTED): (Phase.FETCHING, Do.FETCH),
    (Phase.STAGED, RolloutEvent.WANTED): (Phase.FETCHING, Do.FETCH),
    (Phase.FETCHING, RolloutEvent.FETCHED): (Phase.STAGED, Do.NOTHING),
    (Phase.FETCHING, RolloutEvent.REFUSED): (Phase.RESTING, Do.DISCARD),
    (Phase.STAGED, RolloutEvent.ALLOWED): (Phase.TRIAL, Do.RUN),
    (Phase.TRIAL, RolloutEvent.PASSED): (Phase.COMMITTING, Do.POINT),
    (Phase.TRIAL, RolloutEvent.FAILED): (Phase.RESTING, Do.RUN),
    (Phase.COMMITTING, RolloutEvent.COMMITTED): (Phase.RESTING, Do.RUN),
    (Phase.PROVING, RolloutEvent.PASSED): (Phase.RESTING, Do.NOTHING),
    (Phase.PROVING, RolloutEvent.FAILED): (Phase.COMMITTING, Do.POINT),
    (Phase.RESTING, RolloutEvent.BOOTED): (Phase.RESTING, Do.RUN),
    (Phase.FETCHING, RolloutEvent.BOOTED): (Phase.FETCHING, Do.RUN),
    (Phase.STAGED, RolloutEvent.BOOTED): (Phase.STAGED, Do.RUN),
    (Phase.TRIAL, RolloutEvent.BOOTED): (Phase.STAGED, Do.RUN),
    (Phase.COMMITTING, RolloutEvent.BOOTED): (Phase.COMMITTING, Do.POINT),
    (Phase.PROVING, RolloutEvent.BOOTED): (Phase.PROVING, Do.RUN),
}
"""Phase, event → phase, what to do. What is not here is ignored. Boots that are one too many are in `_booted`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is on the disk. Generations are numbers above 0; 0: none.

    `current`: what is committed. `previous`: what was before. `candidate`: what is under way. `highest`: of all ever
    accepted. `tries`: starts of the candidate, or of `current` while it is to be proved, that came to no end.
    `proven`: it has been started, and has passed, since it was committed. `last`, `reason`: the generation that was
    last decided on, and why it was rolled back or refused; empty where it was committed.
    """

    phase: Phase = Phase.RESTING
    current: int = 0
    previous: int = 0
    candidate: int = 0
    highest: int = 0
    tries: int = 0
    proven: bool = True
    last: int = 0
    reason: str = ""

    @property
    def running(self) -> int:
        """The generation that is to run now; 0 where there is none."""
        return self.candidate if self.phase is Phase.TRIAL else self.current

    @property
    def on_trial(self) -> bool:
        """Whether what runs is watched by its gate."""
        return self.phase in (Phase.TRIAL, Phase.PROVING)

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self) | {"phase": self.phase.value}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Record:
        """What `plain` wrote. Raises ThalwegError on anything else."""
        try:
            return cls(**{**plain, "phase": Phase(plain["phase"])})
        except (KeyError, TypeError, ValueError) as error:
            raise ThalwegError(f"that is no record of a rollout: {error}") from None


def follow(record: Record, event: RolloutEvent, *, generation: int = 0, reason: str = "") -> tuple[Record, Do]:
    """The record after an event, and what is to be done once it is on the disk. What does not belong is ignored."""
    if (record.phase, event) not in NEXT or (event is RolloutEvent.WANTED and generation <= record.highest):
        return record, Do.NOTHING
    phase, do = NEXT[record.phase, event]
    moved = replace(record, phase=phase)
    match event:
        case RolloutEvent.WANTED:
            return replace(moved, candidate=generation, highest=generation, tries=0), do
        case RolloutEvent.REFUSED:
            return replace(moved, candidate=0, last=record.candidate, reason=reason), do
        case RolloutEvent.ALLOWED:
            return replace(moved, tries=record.tries + 1), do
        case RolloutEvent.FAILED if record.phase is Phase.TRIAL:
            return replace(moved, candidate=0, tries=0, last=record.candidate, reason=reason), do
        case RolloutEvent.FAILED:
            return _revert(record, reason)
        case RolloutEvent.PASSED if record.phase is Phase.PROVING:
            return replace(moved, proven=True, previous=0, tries=0), do
        case RolloutEvent.COMMITTED:
            return _committed(record, moved), do
        case RolloutEvent.BOOTED:
            return _booted(record, moved, do)
    return moved, do


def _committed(record: Record, moved: Record) -> Record:
    """A revert points back at `previous`, which has proved itself; everything else is new."""
    if record.candidate == record.previous and record.candidate:
        return replace(moved, current=record.candidate, previous=0, candidate=0, tries=0, proven=True)
    return replace(
        moved,
        current=record.candidate,
        previous=record.current,
        candidate=0,
        tries=0,
        proven=record.current == 0,  # without one before there is nothing to go back to
        last=record.candidate,
        reason="",
    )


def _booted(record: Record, moved: Record, do: Do) -> tuple[Record, Do]:
    if record.phase is Phase.TRIAL and record.tries >= TRIES:
        reason = f"the node went down {record.tries} times while it was tried"
        resting = replace(record, phase=Phase.RESTING, candidate=0, tries=0, last=record.candidate, reason=reason)
        return resting, Do.RUN
    if record.phase is Phase.PROVING and record.tries >= TRIES:
        return _revert(record, f"the node went down {record.tries} times after it was committed")
    if record.phase is Phase.RESTING and not record.proven:
        return replace(moved, phase=Phase.PROVING, tries=1), do
    if record.phase is Phase.PROVING:
        return replace(moved, tries=record.tries + 1), do
    return moved, do


def _revert(record: Record, reason: str) -> tuple[Record, Do]:
    back = replace(
        record, phase=Phase.COMMITTING, candidate=record.previous, tries=0, last=record.current, reason=reason
    )
    return back, Do.POINT
