"""What the pipeline of one conversation does, over all its workers, in numbers small enough to send often.

What lies in this process is read whenever somebody asks. What lies elsewhere has to be asked for: `look` does so, and
between two looks its last answer stands.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from thalweg.deploy.cluster.deployment import Deployment
from thalweg.deploy.cluster.host import Host
from thalweg.deploy.ops.observing.stats import ChannelStats, WorkerStats, stats_of
from thalweg.pipeline.clock import Clock
from thalweg.pipeline.dialogue.events import StageStats, Stats

SAME_CLOCK_NS = 500_000_000
"""Clocks closer together than this are one clock, read a message later: workers on one machine share it."""


class ConversationStats:
    """Turns the counts of all workers into differences since the last report; of a source, units are what it gave."""

    def __init__(self, deployment: Deployment, clock: Clock) -> None:
        self._deployment = deployment
        self._clock = clock
        self._elsewhere: dict[str, tuple[WorkerStats, int]] = {}
        self._counted: dict[str, tuple[int, int]] = {}
        self._reported_ns = clock.now_ns()

    @property
    def alone(self) -> bool:
        """Whether the whole pipeline lies in this process, so that there is nowhere to look."""
        return all(isinstance(host, Host) for host in self._deployment.hosts.values())

    async def look(self) -> None:
        """Ask the workers in other processes. One that does not answer keeps what it said last."""
        if self.alone:
            return
        for name, told in (await self._deployment.stats()).items():
            if told is not None and not isinstance(self._deployment.hosts[name], Host):
                ahead_ns = told["now_ns"] - self._clock.now_ns()
                self._elsewhere[name] = told, ahead_ns if abs(ahead_ns) > SAME_CLOCK_NS else 0

    @property
    def counts(self) -> Counter[str]:
        """What the stages have counted."""
        return sum((Counter(stage["counts"]) for told in self._told() for stage in told["stages"].values()), Counter())

    def milestones(self, epoch: int) -> tuple[int, dict[str, int]] | None:
        """When the voice of a turn ended, and its milestones; ns of our clock. None where no end is known."""
        speech_end_ns: int | None = None
        marks: dict[str, int] = {}
        for told, ahead_ns in self._all():
            for turn in told["turns"]:
                if turn["epoch"] == epoch:
                    if turn["speech_end_ns"] is not None:
                        speech_end_ns = turn["speech_end_ns"] - ahead_ns
                    for name, at_ns in turn["marks"].items():
                        marks[name] = min(marks.get(name, at_ns - ahead_ns), at_ns - ahead_ns)
        return None if speech_end_ns is None else (speech_end_ns, marks)

    def report(self) -> Stats:
        """What happened since the last report."""
        now_ns = self._clock.now_ns()
        span_ms = (now_ns - self._reported_ns) / 1e6
        self._reported_ns = now_ns
        into: dict[str, list[ChannelStats]] = defaultdict(list)
        given: Counter[str] = Counter()
        told = list(self._told())
        for worker in told:
            for edge, channel in worker["channels"].items():
                source, target = (end.partition(".")[0] for end in edge.split(" -> "))
                if channel["side"] != "sending":
                    into[target].append(channel)
                if channel["side"] != "receiving":
                    given[source] = max(given[source], channel["pushed"])
        stages = []
        for worker in told:
            for name, stage in worker["stages"].items():
                units, work_ns = self._counted.get(name, (0, 0))
                done, total_ns = stage["units"] if name in into else given[name], stage["work"]["total_ns"]
                self._counted[name] = (done, total_ns)
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

    def _told(self) -> Iterator[WorkerStats]:
        return (told for told, _ in self._all())

    def _all(self) -> Iterator[tuple[WorkerStats, int]]:
        for name, host in self._deployment.hosts.items():
            if isinstance(host, Host):
                yield stats_of(host.worker), 0
            elif name in self._elsewhere:
                yield self._elsewhere[name]
