"""What the stages of one conversation do, in numbers small enough to send four times a second."""

from __future__ import annotations

from collections import Counter, defaultdict

from thalweg.deploy.ops.observing.stats import ChannelStats, stats_of
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.dialogue.events import StageStats, Stats


class StageWatch:
    """Turns a worker's counts into differences since the last look; of a source, units are what it gave."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._seen: dict[str, tuple[int, int]] = {}
        self._seen_ns = worker.clock.now_ns()

    def report(self) -> Stats:
        """What happened since the last report."""
        now_ns = self._worker.clock.now_ns()
        span_ms = (now_ns - self._seen_ns) / 1e6
        self._seen_ns = now_ns
        stages = []
        told = stats_of(self._worker)
        into: dict[str, list[ChannelStats]] = defaultdict(list)
        given: Counter[str] = Counter()
        for edge, channel in told["channels"].items():
            source, target = (end.partition(".")[0] for end in edge.split(" -> "))
            into[target].append(channel)
            given[source] = max(given[source], channel["pushed"])
        for name, stage in told["stages"].items():
            units, work_ns = self._seen.get(name, (0, 0))
            total_ns = stage["work"]["total_ns"]
            done = stage["units"] if name in into else given[name]
            self._seen[name] = (done, total_ns)
            stages.append(
                StageStats(
                    name=name,
                    units=done - units,
                    work_us=max(0, total_ns - work_ns) // 1000,
                    queue=sum(channel["depth"] for channel in into[name]),
                    dropped=sum(sum(channel["drops"].values()) for channel in into[name]),
                )
            )
        return Stats(span_ms=span_ms, stages=stages)
