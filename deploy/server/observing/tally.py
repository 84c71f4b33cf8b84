"""What has been counted of conversations: of one while it is under way, of all that are over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from thalweg.deploy.ops.observing.merging import at_rest, merged
from thalweg.deploy.ops.observing.readings import Stats
from thalweg.deploy.ops.observing.stats import WorkerStats
from thalweg.deploy.ops.observing.turn_ledger import TurnLedger
from thalweg.pipeline.observing.histogram import Histogram

PLAYED = "played"
"""The milestone that only a server knows: the first sound of the answer leaves for the person."""


class Tally:
    """`workers`: readings by name; `ledger`: turns; `played`: from the end of speech to the first sound of the answer;
    `interrupts`: from the first sound of an interruption to the last of the answer; `answers`: how long answers
    sounded.
    """

    def __init__(self) -> None:
        self.workers: dict[str, WorkerStats] = {}
        self.ledger = TurnLedger()
        self.played = Histogram()
        self.interrupts = Histogram()
        self.answers = Histogram()

    def look(self, stats: Stats) -> None:
        """Take what the workers of one conversation say of themselves now."""
        self.ledger.update(stats)
        self.workers |= {name: told for name, told in stats.items() if told is not None}

    def close(self, other: Tally) -> None:
        """Add a conversation that is over."""
        self._add([other], over=True)

    def with_those_under_way(self, others: Iterable[Tally]) -> Tally:
        """All of them; this one is left as it is."""
        whole = Tally()
        whole._add([self, *others])
        return whole

    def _add(self, others: Iterable[Tally], *, over: bool = False) -> None:
        for other in others:
            self.workers = _together(self.workers, other.workers, over=over)
            self.ledger.add(other.ledger)
            self.played.add(other.played)
            self.interrupts.add(other.interrupts)
            self.answers.add(other.answers)

    @property
    def latencies(self) -> dict[str, Histogram]:
        """From the end of speech, by milestone."""
        return self.ledger.latencies | {PLAYED: self.played}


def _together(
    ours: Mapping[str, WorkerStats], theirs: Mapping[str, WorkerStats], *, over: bool
) -> dict[str, WorkerStats]:
    found = {}
    for name in {**ours, **theirs}:
        told = [ours[name]] if name in ours else []
        if name in theirs:
            told.append(at_rest(theirs[name]) if over else theirs[name])
        whole = merged(told)
        assert whole is not None
        found[name] = whole
    return found
