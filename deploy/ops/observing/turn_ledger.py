"""Counts turns of a pipeline from what its workers saw of them, each turn and each milestone once.

A worker sees part of a turn: one hears the end of speech, another speaks the first word. What the looks at all of
them bring is put together by epoch; of the newest `KEPT` turns the ledger knows what it has counted already.
Milestones are compared on the workers' clocks, so between hosts a latency is off by what their clocks differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thalweg.pipeline.observing.histogram import Histogram
from thalweg.pipeline.observing.turn import MILESTONES

if TYPE_CHECKING:
    from thalweg.deploy.ops.observing.readings import Stats
    from thalweg.deploy.ops.observing.stats import TurnStats

KEPT = 1024
OUTCOMES = ("complete", "interrupted", "failed")


@dataclass(slots=True)
class _Known:
    speech_end_ns: int | None = None
    marks: dict[str, int] = field(default_factory=dict)
    counted: set[str] = field(default_factory=set)
    outcome: str = ""


class TurnLedger:
    """`started`: turns; `outcomes`: those whose outcome is known; `latencies`: from the end of speech, by milestone."""

    def __init__(self) -> None:
        self.started = 0
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.latencies = {milestone: Histogram() for milestone in MILESTONES}
        self._known: dict[int, _Known] = {}
        self._forgotten = 0

    def update(self, stats: Stats) -> None:
        """Count what is new in a look at every worker."""
        seen: dict[int, list[TurnStats]] = {}
        for told in stats.values():
            for turn in told["turns"] if told is not None else ():
                seen.setdefault(turn["epoch"], []).append(turn)
        for epoch in sorted(seen):
            if epoch > self._forgotten:
                self._count(epoch, seen[epoch])
        while len(self._known) > KEPT:
            oldest = min(self._known)
            del self._known[oldest]
            self._forgotten = max(self._forgotten, oldest)

    def add(self, other: TurnLedger) -> None:
        """Count everything that `other`, of another pipeline, has counted."""
        self.started += other.started
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] += count
        for milestone, histogram in other.latencies.items():
            self.latencies[milestone].add(histogram)

    def _count(self, epoch: int, seen: list[TurnStats]) -> None:
        known = self._known.get(epoch)
        if known is None:
            known = self._known[epoch] = _Known()
            self.started += 1
        for turn in seen:
            if turn["speech_end_ns"] is not None:
                known.speech_end_ns = turn["speech_end_ns"]
            for milestone, time_ns in turn["marks"].items():
                known.marks[milestone] = min(time_ns, known.marks.get(milestone, time_ns))
        if known.speech_end_ns is not None:
            for milestone in known.marks.keys() - known.counted:
                known.counted.add(milestone)
                self.latencies[milestone].record(known.marks[milestone] - known.speech_end_ns)
        if not known.outcome:
            known.outcome = _outcome(seen)
            if known.outcome:
                self.outcomes[known.outcome] += 1


def _outcome(seen: list[TurnStats]) -> str:
    if any(turn["failed"] for turn in seen):
        return "failed"
    if any(turn["complete"] for turn in seen):
        return "complete"
    return "interrupted" if any(turn["interrupted"] for turn in seen) else ""
