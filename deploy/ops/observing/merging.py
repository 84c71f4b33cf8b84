"""Readings of workers that run the same stages for different people, put together: one server, all conversations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from thalweg.deploy.ops.observing.stats import ChannelStats, StageStats, WorkerStats
from thalweg.pipeline.observing.histogram import PlainHistogram


def merged(readings: Iterable[WorkerStats]) -> WorkerStats | None:
    """Their sums, by stage and channel, without turns; of the process, what the last says. None where there is none."""
    whole: WorkerStats | None = None
    for told in readings:
        whole = {**told, "turns": []} if whole is None else _both(whole, told)
    return whole


def at_rest(told: WorkerStats) -> WorkerStats:
    """What is left of a worker that has ended: what it counted, and nothing that waits."""
    channels: dict[str, ChannelStats] = {
        name: {**channel, "depth": 0, "capacity": 0} for name, channel in told["channels"].items()
    }
    return {**told, "channels": channels, "turns": []}


def _both(one: WorkerStats, other: WorkerStats) -> WorkerStats:
    stages, channels = dict(one["stages"]), dict(one["channels"])
    for name, stage in other["stages"].items():
        stages[name] = _stage(stages[name], stage) if name in stages else stage
    for name, channel in other["channels"].items():
        channels[name] = _channel(channels[name], channel) if name in channels else channel
    return {
        **other,
        "problems": one["problems"] + other["problems"],
        "stages": stages,
        "channels": channels,
        "turns": [],
    }


def _stage(one: StageStats, other: StageStats) -> StageStats:
    return {
        "use": other["use"],
        "units": one["units"] + other["units"],
        "failures": one["failures"] + other["failures"],
        "work": _durations(one["work"], other["work"]),
        "counts": dict(Counter(one["counts"]) + Counter(other["counts"])),
    }


def _channel(one: ChannelStats, other: ChannelStats) -> ChannelStats:
    return {
        "side": other["side"],
        "policy": other["policy"],
        "capacity": one["capacity"] + other["capacity"],
        "depth": one["depth"] + other["depth"],
        "max_depth": max(one["max_depth"], other["max_depth"]),
        "pushed": one["pushed"] + other["pushed"],
        "popped": one["popped"] + other["popped"],
        "drops": dict(Counter(one["drops"]) + Counter(other["drops"])),
        "age": _durations(one["age"], other["age"]),
    }


def _durations(one: PlainHistogram, other: PlainHistogram) -> PlainHistogram:
    counts: Counter[int] = Counter()
    for bucket, count in (*one["counts"], *other["counts"]):
        counts[bucket] += count
    return {
        "counts": [[bucket, counts[bucket]] for bucket in sorted(counts)],
        "total_ns": one["total_ns"] + other["total_ns"],
        "maximum_ns": max(one["maximum_ns"], other["maximum_ns"]),
    }
