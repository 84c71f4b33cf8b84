"""What a conversation is told of its workers: hosts elsewhere that are slow, or have another clock."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from thalweg.deploy.ops.observing.stats import stats_of
from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.server.observing.conversation_stats import ConversationStats
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.file.plan import LOCAL
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context

MS = 1_000_000
DAY = 86_400_000 * MS


class Quiet:
    """A source of nothing, in this process."""

    outputs = {"token": Token}

    async def run(self, ctx: Context) -> None:
        return


class Elsewhere:
    """A deployment whose worker `brain` says `told`, when it answers; `ahead_ns`: how far its clock is."""

    def __init__(self, worker: Worker, clock: VirtualClock, ahead_ns: int = 0, one_machine: bool = False) -> None:
        self.hosts = {LOCAL: worker, "brain": object()}
        self.links = SimpleNamespace(on_one_machine=lambda *_: one_machine)
        self.told: dict[str, Any] | None = dict(stats_of(worker))
        self._clock, self._ahead_ns = clock, ahead_ns

    async def stats_of(self, name: str) -> dict[str, Any] | None:
        return None if self.told is None else self.told | {"now_ns": self._clock.now_ns() + self._ahead_ns}


def made(**options: Any) -> tuple[ConversationStats, Elsewhere, Worker, VirtualClock]:
    clock, graph = VirtualClock(), Graph()
    graph.add("quiet", Quiet())
    worker = Worker(graph, clock=clock)
    elsewhere = Elsewhere(worker, clock, **options)
    return ConversationStats(elsewhere, worker, clock), elsewhere, worker, clock  # type: ignore[arg-type]


def asked(stats: ConversationStats) -> None:
    asyncio.run(stats._ask("brain"))


@pytest.mark.parametrize(("ahead_ns", "one_machine"), [(DAY, False), (-DAY, False), (0, True)])
def test_milestones_of_another_host_are_told_by_our_clock(ahead_ns: int, one_machine: bool) -> None:
    stats, elsewhere, _, clock = made(ahead_ns=ahead_ns, one_machine=one_machine)
    clock.advance_to(1_000 * MS)
    elsewhere.told = (elsewhere.told or {}) | {
        "turns": [{"epoch": 7, "speech_end_ns": 400 * MS + ahead_ns, "marks": {"first_token": 600 * MS + ahead_ns}}]
    }
    asked(stats)
    assert stats.milestones(7, since_ns=1_000 * MS) == (400 * MS, {"first_token": 600 * MS})


def test_while_a_worker_has_not_answered_since_then_it_may_know_more() -> None:
    stats, elsewhere, _, clock = made()
    clock.advance_to(1_000 * MS)
    turns = [{"epoch": 7, "speech_end_ns": 400 * MS, "marks": {}}]
    elsewhere.told = (elsewhere.told or {}) | {"turns": turns}
    assert stats.milestones(7, since_ns=0) is None
    asked(stats)
    assert stats.milestones(7, since_ns=1_000 * MS) is not None
    clock.advance_to(2_000 * MS)
    elsewhere.told = None  # it is slow, or gone
    asked(stats)
    assert stats.milestones(7, since_ns=1_500 * MS) is None
    assert stats.milestones(7, since_ns=1_000 * MS) is not None


def test_what_a_worker_has_counted_and_lost_by_its_end_stays_counted() -> None:
    stats, elsewhere, _, _ = made()
    stage = {"use": "x", "units": 1, "failures": 0, "work": {"total_ns": 0}}
    for count in (5, 2, 7):  # it came back in between, and began anew
        elsewhere.told = (elsewhere.told or {}) | {"stages": {"a": stage | {"counts": {"draft_hits": count}}}}
        asked(stats)
        assert stats.counts["draft_hits"] >= 5
    assert stats.counts["draft_hits"] == 7


def test_a_report_says_what_happened_since_the_one_before_and_nothing_below_zero() -> None:
    stats, elsewhere, _, clock = made()
    told = []
    for units, total_ns in ((10, 5 * MS), (25, 9 * MS), (3, 1 * MS)):  # the last: it came back, and began anew
        stage = {"use": "x", "units": units, "failures": 0, "work": {"total_ns": total_ns}, "counts": {}}
        channel = {"side": "both", "depth": 1, "drops": {"full": 2}, "pushed": units}
        elsewhere.told = (elsewhere.told or {}) | {"stages": {"a": stage}, "channels": {"m.x -> a.x": channel}}
        asked(stats)
        clock.advance_to(clock.now_ns() + 500 * MS)
        told.append(next(each for each in stats.report().stages if each.name == "a"))
    assert [each.units for each in told] == [10, 15, 0]
    assert [each.work_us for each in told] == [5_000, 4_000, 0]
    assert {(each.queue, each.dropped) for each in told} == {(1, 2)}
