"""What a run of a worker came to, as plain data: what reports, traces and pictures are made of.

Outcomes of several workers that ran one pipeline on one clock can be merged; the merged one is what the same
pipeline would have left in one worker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from thalweg.deploy.errors import Problem
from thalweg.deploy.ops.observing.stats import ChannelStats, StageStats, stats_of
from thalweg.pipeline.observing.histogram import Histogram
from thalweg.pipeline.observing.trace import Mark, Span
from thalweg.pipeline.observing.turn import Turn

if TYPE_CHECKING:
    from thalweg.deploy.runtime.worker import Worker

__all__ = ["Outcome", "Problem", "merge", "outcome_of"]


@dataclass(slots=True)
class Outcome:
    """Times are ns of the pipeline's clock. `stages`, `channels`: as in the report, durations in ns."""

    started_ns: int
    ended_ns: int
    stopped: bool = False
    turns: dict[int, Turn] = field(default_factory=dict)
    turns_forgotten: int = 0
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    channels: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0
    recovered_count: int = 0
    events: list[Span | Mark] = field(default_factory=list)

    @property
    def unharmed(self) -> bool:
        """Whether nothing went wrong, or only what was recovered from."""
        return self.problem_count == self.recovered_count

    def without_words(self) -> Outcome:
        """The same without what was said."""
        turns = {epoch: replace(turn, transcript="", reply="") for epoch, turn in self.turns.items()}
        return replace(self, turns=turns)

    def plain(self) -> dict[str, Any]:
        """Nothing but dicts, lists and scalars; `from_plain` reads it."""
        return asdict(self) | {
            "turns": [asdict(turn) for turn in self.turns.values()],
            "events": [("span" if isinstance(e, Span) else "mark", asdict(e)) for e in self.events],
        }

    def of_replica(self, stages: Iterable[str], worker: str) -> Outcome:
        """With `stages`, and edges between them, called by the worker too: other replicas have the same ones."""
        names = {stage: f"{stage} ({worker})" for stage in stages}
        ends = {c: [end.partition(".")[0] for end in c.split(" -> ")] for c in self.channels}
        inner = {c: f"{c} ({worker})" for c, stages in ends.items() if set(stages) <= set(names)}
        return replace(
            self,
            stages={names.get(name, name): told for name, told in self.stages.items()},
            channels={inner.get(name, name): told for name, told in self.channels.items()},
            problems=[replace(p, stage=names.get(p.stage, p.stage)) for p in self.problems],
            events=[replace(event, stage=names.get(event.stage, event.stage)) for event in self.events],
        )

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Outcome:
        """What `plain` wrote."""
        return cls(
            **plain
            | {
                "turns": {turn["epoch"]: Turn(**turn) for turn in plain["turns"]},
                "problems": [Problem(**problem) for problem in plain["problems"]],
                "events": [Span(**e) if kind == "span" else Mark(**e) for kind, e in plain["events"]],
            }
        )


def outcome_of(worker: Worker) -> Outcome:
    """What `worker` did."""
    told = stats_of(worker)
    ran_ns = max(1, worker.ended_ns - worker.started_ns)
    return Outcome(
        started_ns=worker.started_ns,
        ended_ns=worker.ended_ns,
        stopped=worker.stopped,
        turns=worker.turns.turns,
        turns_forgotten=worker.turns.forgotten,
        stages={name: _stage(stage, ran_ns) for name, stage in told["stages"].items()},
        channels={
            f"{name} (sending)" if channel["side"] == "sending" else name: _channel(channel)
            for name, channel in told["channels"].items()
        },
        problems=list(worker.problems),
        problem_count=worker.problem_count,
        recovered_count=worker.told.recovered,
        events=list(worker.trace.events) if worker.trace is not None else [],
    )


def _stage(told: StageStats, ran_ns: int) -> dict[str, Any]:
    work = Histogram.from_plain(told["work"])
    return {
        "use": told["use"],
        "units": told["units"],
        **{f"p{percent}_ns": work.quantile(percent / 100) for percent in (50, 95, 99)},
        "busy": round(work.total_ns / ran_ns, 4),
        "counts": told["counts"],
    }


def _channel(told: ChannelStats) -> dict[str, Any]:
    age = Histogram.from_plain(told["age"])
    return {
        **{key: told[key] for key in ("capacity", "policy", "pushed", "popped", "max_depth")},
        "age_p50_ns": age.quantile(0.5),
        "age_p99_ns": age.quantile(0.99),
        "drops": told["drops"],
    }


def merge(outcomes: Iterable[Outcome]) -> Outcome:
    """One outcome of several workers that shared a clock. Raises ValueError where there is none."""
    every = list(outcomes)
    merged = Outcome(min(o.started_ns for o in every), max(o.ended_ns for o in every))
    for outcome in every:
        merged.stopped = merged.stopped or outcome.stopped
        merged.stages |= outcome.stages
        merged.channels |= outcome.channels
        merged.problems += outcome.problems
        merged.problem_count += outcome.problem_count
        merged.recovered_count += outcome.recovered_count
        merged.turns_forgotten = max(merged.turns_forgotten, outcome.turns_forgotten)
        merged.events += outcome.events
        for epoch, turn in outcome.turns.items():
            merged.turns[epoch] = turn if epoch not in merged.turns else _merge_turn(merged.turns[epoch], turn)
    merged.turns = dict(sorted(merged.turns.items()))
    merged.problems.sort(key=lambda problem: problem.time_ns)
    return merged


def _merge_turn(a: Turn, b: Turn) -> Turn:
    marks = dict(a.marks)
    for name, time_ns in b.marks.items():
        marks[name] = min(time_ns, marks.get(name, time_ns))
    return Turn(
        epoch=a.epoch,
        speech_start_ns=min(a.speech_start_ns, b.speech_start_ns),
        speech_end_ns=a.speech_end_ns if a.speech_end_ns is not None else b.speech_end_ns,
        transcript=a.transcript or b.transcript,
        reply=a.reply or b.reply,
        decision=a.decision or b.decision,
        complete=a.complete or b.complete,
        interrupted=(a.interrupted or b.interrupted) and not (a.complete or b.complete),
        problem=a.problem or b.problem,
        marks=marks,
    )
