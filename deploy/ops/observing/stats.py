"""What a running worker looks like from outside: counts since it began, as plain values that cross any boundary.

A reading takes about a millisecond for ten stages and changes nothing, so any number of observers may read. Rates and
recent quantiles are differences between two readings; the observer computes them.
"""

from __future__ import annotations

import os
import resource
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from thalweg.pipeline.observing.histogram import PlainHistogram

if TYPE_CHECKING:
    from thalweg.deploy.runtime.worker import Worker
    from thalweg.pipeline.node import Edge

RECENT_TURNS = 256


class StageStats(TypedDict):
    """One stage. `work`: the time each unit took. `counts`: what the stage itself counts."""

    use: str
    units: int
    failures: int
    work: PlainHistogram
    counts: dict[str, int]


class ChannelStats(TypedDict):
    """One channel. `side`: `whole`, or of an edge between workers the `sending` or `receiving` half of it.

    `age`: of packets when they were taken, from their capture. `drops`: by reason, those that occurred.
    """

    side: str
    policy: str
    capacity: int
    depth: int
    max_depth: int
    pushed: int
    popped: int
    drops: dict[str, int]
    age: PlainHistogram


class TurnStats(TypedDict):
    """What this worker saw of a turn; times are ns of its clock. What was said is not here."""

    epoch: int
    speech_end_ns: int | None
    marks: dict[str, int]
    complete: bool
    interrupted: bool
    failed: bool


class WorkerStats(TypedDict):
    """One worker. `turns`: the newest, at most `RECENT_TURNS`. `now_ns`, `started_ns`: of its clock."""

    pid: int
    now_ns: int
    started_ns: int
    cpu_s: float
    resident_bytes: int
    open_files: int
    problems: int
    stages: dict[str, StageStats]
    channels: dict[str, ChannelStats]
    turns: list[TurnStats]


def stats_of(worker: Worker) -> WorkerStats:
    """Read them; on the worker's loop."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "pid": os.getpid(),
        "now_ns": worker.clock.now_ns(),
        "started_ns": worker.started_ns,
        "cpu_s": used.ru_utime + used.ru_stime,
        "resident_bytes": _resident_bytes(used.ru_maxrss),
        "open_files": _open_files(),
        "problems": worker.problem_count,
        "stages": {
            actor.name: {
                "use": actor.info.use,
                "units": actor.units,
                "failures": actor.failures,
                "work": actor.work.plain(),
                "counts": actor.counts,
            }
            for actor in worker.actors.values()
        },
        "channels": {edge.name: _channel(worker, edge) for edge in worker.edges},
        "turns": [
            {
                "epoch": turn.epoch,
                "speech_end_ns": turn.speech_end_ns,
                "marks": dict(turn.marks),
                "complete": turn.complete,
                "interrupted": turn.interrupted,
                "failed": bool(turn.problem),
            }
            for turn in islice(reversed(worker.turns.turns.values()), RECENT_TURNS)
        ],
    }


def _channel(worker: Worker, edge: Edge) -> ChannelStats:
    stats = edge.channel.stats
    sending, receiving = edge.consumer.name in worker.outlets, edge.producer.name in worker.inlets
    return {
        "side": "sending" if sending else "receiving" if receiving else "whole",
        "policy": edge.channel.policy.value,
        "capacity": edge.channel.capacity,
        "depth": stats.depth,
        "max_depth": stats.max_depth,
        "pushed": stats.pushed,
        "popped": stats.popped,
        "drops": {drop.value: count for drop, count in stats.drops.items() if count},
        "age": edge.age.plain(),
    }


def _resident_bytes(most_kib: int) -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no /proc: the most it ever was
        return most_kib * 1024


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0
