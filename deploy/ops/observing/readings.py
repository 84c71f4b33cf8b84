"""From counts to rates: what happened between two looks at running workers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from thalweg.deploy.ops.observing.stats import ChannelStats, StageStats, WorkerStats
from thalweg.pipeline.observing.histogram import Histogram, PlainHistogram

WINDOW_S = 5.0

Stats = Mapping[str, WorkerStats | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReading:
    """One stage over the window. `rate`: units a second; of a source, packets it gave. `busy`: share spent working.

    `queue`: packets that wait at its inputs now. `units`, `failures`, `dropped` (at its inputs), `counts` (what it
    counts itself): since its worker began.
    """

    worker: str
    stage: str
    use: str
    units: int
    rate: float
    busy: float
    p50_ms: float
    p95_ms: float
    queue: int
    dropped: int
    failures: int
    counts: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelReading:
    """One channel, or one half of an edge between workers, over the window; `drops` since its worker began."""

    worker: str
    channel: str
    side: str
    policy: str
    rate: float
    depth: int
    capacity: int
    age_p50_ms: float
    age_p95_ms: float
    drops: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReading:
    """One worker's process over the window. `cpu`: cores in use."""

    worker: str
    pid: int
    cpu: float
    resident_mb: float
    open_files: int
    problems: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Everything, over the last `seconds`."""

    seconds: float
    workers: list[WorkerReading]
    stages: list[StageReading]
    channels: list[ChannelReading]

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


class Readings:
    """Keeps what was seen in the last `WINDOW_S` and reads what came since."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Stats]] = deque()

    def read(self, stats: Stats, at_s: float | None = None) -> Reading:
        """What happened between the oldest look in the window and this one, which is `stats` at `at_s`."""
        now_s = time.monotonic() if at_s is None else at_s
        self._seen.append((now_s, stats))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - WINDOW_S:
            self._seen.popleft()
        then_s, earlier = self._seen[0]
        seconds = max(1e-3, now_s - then_s)
        workers, stages, channels = [], [], []
        for name, now in stats.items():
            if now is None:
                continue
            then = earlier.get(name)
            if then is not None and then["pid"] != now["pid"]:
                then = None  # it was started anew, and counts from nothing
            workers.append(_worker(name, now, then, seconds))
            stages += [_stage(name, stage, now, then, seconds) for stage in now["stages"]]
            channels += [_channel(name, channel, now, then, seconds) for channel in now["channels"]]
        return Reading(seconds=seconds, workers=workers, stages=stages, channels=channels)


def _worker(name: str, now: WorkerStats, then: WorkerStats | None, seconds: float) -> WorkerReading:
    return WorkerReading(
        worker=name,
        pid=now["pid"],
        cpu=(now["cpu_s"] - then["cpu_s"]) / seconds if then else 0.0,
        resident_mb=now["resident_bytes"] / 1e6,
        open_files=now["open_files"],
        problems=now["problems"],
    )


def _stage(name: str, stage: str, now: WorkerStats, then: WorkerStats | None, seconds: float) -> StageReading:
    new: StageStats = now["stages"][stage]
    old = then["stages"].get(stage) if then else None
    work = _since(new["work"], old["work"] if old else None)
    inputs = [c for edge, c in now["channels"].items() if edge.partition(" -> ")[2].partition(".")[0] == stage]
    waiting = [channel for channel in inputs if channel["side"] != "sending"]
    units, before = new["units"], old["units"] if old else 0
    if not waiting:  # a source: what it does is what it gives
        units, before = _given(now, stage), _given(then, stage) if then else 0
    return StageReading(
        worker=name,
        stage=stage,
        use=new["use"],
        units=units,
        rate=(units - before) / seconds,
        busy=min(1.0, work.total_ns / 1e9 / seconds),  # a unit counts when it ends, also what of it was before
        p50_ms=work.quantile(0.5) / 1e6,
        p95_ms=work.quantile(0.95) / 1e6,
        queue=sum(channel["depth"] for channel in waiting),
        dropped=sum(sum(channel["drops"].values()) for channel in waiting),
        failures=new["failures"],
        counts=dict(new["counts"]),
    )


def _given(stats: WorkerStats, stage: str) -> int:
    """Packets that left a stage: several edges of one port carry the same ones, so the busiest port's edge counts."""
    pushed = [
        channel["pushed"]
        for edge, channel in stats["channels"].items()
        if edge.partition(".")[0] == stage and channel["side"] != "receiving"
    ]
    return max(pushed, default=0)


def _channel(name: str, channel: str, now: WorkerStats, then: WorkerStats | None, seconds: float) -> ChannelReading:
    new: ChannelStats = now["channels"][channel]
    old = then["channels"].get(channel) if then else None
    age = _since(new["age"], old["age"] if old else None)
    return ChannelReading(
        worker=name,
        channel=channel,
        side=new["side"],
        policy=new["policy"],
        rate=(new["popped"] - (old["popped"] if old else 0)) / seconds,
        depth=new["depth"],
        capacity=new["capacity"],
        age_p50_ms=age.quantile(0.5) / 1e6,
        age_p95_ms=age.quantile(0.95) / 1e6,
        drops=new["drops"],
    )


def _since(new: PlainHistogram, old: PlainHistogram | None) -> Histogram:
    now = Histogram.from_plain(new)
    return now if old is None else now.since(Histogram.from_plain(old))
