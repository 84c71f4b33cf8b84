"""What the stages of one conversation do, in numbers small enough to send four times a second."""

from __future__ import annotations

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
        for actor in self._worker.actors.values():
            units, work_ns = self._seen.get(actor.name, (0, 0))
            total_ns = actor.work.total_ns
            given = max((e.channel.stats.pushed for port in actor.outputs.values() for e in port), default=0)
            done = given if actor.info.is_source else actor.units
            self._seen[actor.name] = (done, total_ns)
            channels = [edge.channel.stats for edge in actor.inputs]
            stages.append(
                StageStats(
                    name=actor.name,
                    units=done - units,
                    work_us=max(0, total_ns - work_ns) // 1000,
                    queue=sum(stats.depth for stats in channels),
                    dropped=sum(sum(stats.drops.values()) for stats in channels),
                )
            )
        return Stats(span_ms=span_ms, stages=stages)
