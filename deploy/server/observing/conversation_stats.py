"""What the pipeline of one conversation does, over all its workers, in numbers small enough to send often.

Workers in this process are read at each request. Workers elsewhere are polled by `follow`; between two answers the last
one is used.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict

from thalweg.deploy.cluster.deployment import Deployment
from thalweg.deploy.ops.observing.stats import ChannelStats, WorkerStats, stats_of
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.clock import Clock
from thalweg.pipeline.dialogue.events import StageStats, Stats
from thalweg.pipeline.file.plan import LOCAL

LOOK_S = 0.5


class ConversationStats:
    """`worker`: the part of `deployment` in this process; `clock`: ours, in which times are given."""

    def __init__(self, deployment: Deployment, worker: Worker, clock: Clock) -> None:
        self._deployment = deployment
        self._worker = worker
        self._clock = clock
        self._elsewhere: dict[str, tuple[WorkerStats, int, int]] = {}
        self._counted_elsewhere: Counter[str] = Counter()
        self._reported: dict[str, tuple[int, int]] = {}
        self._reported_ns = clock.now_ns()

    async def follow(self) -> None:
        """Ask the workers elsewhere again and again, until cancelled. One that does not answer keeps what it said."""
        while others := [name for name in self._deployment.hosts if name != LOCAL]:
            async with asyncio.TaskGroup() as group:
                for name in others:
                    group.create_task(self._ask(name))
            await asyncio.sleep(LOOK_S)

    async def _ask(self, name: str) -> None:
        told = await self._deployment.stats_of(name)
        if told is not None:
            now_ns = self._clock.now_ns()
            ahead_ns = 0 if self._deployment.links.on_one_machine(name, LOCAL) else told["now_ns"] - now_ns
            self._elsewhere[name] = told, ahead_ns, now_ns
            counted = sum((Counter(stage["counts"]) for stage in told["stages"].values()), Counter[str]())
            self._counted_elsewhere |= counted  # a worker that comes back begins anew

    @property
    def counts(self) -> Counter[str]:
        """What the stages have counted."""
        here = sum((Counter(actor.counts) for actor in self._worker.actors.values()), Counter[str]())
        return here + self._counted_elsewhere

    def workers(self) -> dict[str, WorkerStats]:
        """What each worker says of itself, where it has said anything."""
        return {LOCAL: stats_of(self._worker)} | {name: told for name, (told, _, _) in self._elsewhere.items()}

    @property
    def problem_count(self) -> int:
        """How much has gone wrong in the workers."""
        return self._worker.problem_count + sum(told["problems"] for told, _, _ in self._elsewhere.values())

    def milestones(self, epoch: int, since_ns: int) -> tuple[int, dict[str, int]] | None:
        """When the voice of a turn ended, and its milestones; ns of our clock. None where no end is known.

        None, too, while a worker elsewhere has not been asked since `since_ns`: it may know more.
        """
        if any(
            name not in self._elsewhere or self._elsewhere[name][2] < since_ns
            for name in self._deployment.hosts
            if name != LOCAL
        ):
            return None
        ends: list[int] = []
        marks: dict[str, int] = {}
        own = self._worker.turns.turns.get(epoch)
        seen = [] if own is None else [(own.speech_end_ns, dict(own.marks), 0)]
        for told, ahead_ns, _ in self._elsewhere.values():
            seen += [(t["speech_end_ns"], t["marks"], ahead_ns) for t in told["turns"] if t["epoch"] == epoch]
        for speech_end_ns, found, ahead_ns in seen:
            ends += [] if speech_end_ns is None else [speech_end_ns - ahead_ns]
            for name, at_ns in found.items():
                marks[name] = min(marks.get(name, at_ns - ahead_ns), at_ns - ahead_ns)
        return (min(ends), marks) if ends else None

    def report(self) -> Stats:
        """What happened since the last report; of a source, units are what it gave."""
        now_ns = self._clock.now_ns()
        span_ms = (now_ns - self._reported_ns) / 1e6
        self._reported_ns = now_ns
        workers = [stats_of(self._worker), *(told for told, _, _ in self._elsewhere.values())]
        into: dict[str, list[ChannelStats]] = defaultdict(list)
        given: Counter[str] = Counter()
        for worker in workers:
            for edge, channel in worker["channels"].items():
                source, target = (end.partition(".")[0] for end in edge.split(" -> "))
                if channel["side"] != "sending":
                    into[target].append(channel)
                if channel["side"] != "receiving":
                    given[source] = max(given[source], channel["pushed"])
        stages = []
        for name, stage in ((name, stage) for worker in workers for name, stage in worker["stages"].items()):
            units, work_ns = self._reported.get(name, (0, 0))
            done, total_ns = stage["units"] if name in into else given[name], stage["work"]["total_ns"]
            self._reported[name] = (done, total_ns)
            stages.append(
                StageStats(
                    name=name,
                    units=max(0, done - units),
                    work_us=max(0, total_ns - work_ns) // 1000,
                    queue=sum(channel["depth"] for channel in into[name]),
                    dropped=sum(sum(channel["drops"].values()) for channel in into[name]),
                )
            )
        return Stats(span_ms=span_ms, stages=stages)
