"""An agent whose disk takes nothing for a while, or whose pipeline cannot be started: it goes on once that is over."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_package
from tests.deploy.fleet.agents import agent_in, enrolled_node
from thalweg.deploy.fleet.manifest import Manifest
from thalweg.deploy.fleet.node.agent import Agent
from thalweg.pipeline.fleet.gate import Gate, Sight
from thalweg.pipeline.fleet.rollout import Phase, Record, RolloutEvent

OLD = Record(current=1, highest=2, candidate=2, tries=1, phase=Phase.TRIAL)


class FakePipeline:
    """Starts what it is told to; `refuses`: how often it does not."""

    def __init__(self) -> None:
        self.generation = self.refuses = 0
        self.ended = False
        self.started: list[int] = []

    def start(self, release: Path, manifest: Manifest) -> None:
        """Raises OSError while it refuses."""
        self.stop()
        if self.refuses:
            self.refuses -= 1
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        self.generation, self.ended = manifest.generation, False
        self.started.append(manifest.generation)

    def stop(self) -> None:
        """Nothing runs."""
        self.generation = 0

    def sight(self) -> Sight:
        """All is well."""
        return Sight(ready=True, outputs={"out": 1})


class Site:
    """An agent with a fake pipeline; `full`: its disk takes no record, `stuck`: no link."""

    def __init__(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        self.agent = agent
        self.pipeline: Any = FakePipeline()
        self.full = self.stuck = False
        agent.pipeline = self.pipeline
        monkeypatch.setattr(
            agent.releases,
            "manifest",
            lambda it: Manifest(generation=it, pipeline="p", files=(), gate=Gate(watch_ns=0)),
        )
        self.save, self.point = agent.releases.save, agent.releases.point
        monkeypatch.setattr(agent.releases, "save", lambda it: self._unless(self.full, lambda: self.save(it)))
        monkeypatch.setattr(agent.releases, "point", lambda it: self._unless(self.stuck, lambda: self.point(it)))
        monkeypatch.setattr("thalweg.deploy.fleet.node.agent.pause_s", lambda failures: 0.0)

    def _unless(self, failing: bool, step: Callable[[], None]) -> None:
        if failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        step()

    async def ticks(self, count: int = 3) -> None:
        """Some, each as the agent's loop does it."""
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                with contextlib.suppress(OSError):
                    await self.agent._tick(group)

    def start(self, record: Record) -> None:
        """What the disk holds when the agent starts."""
        self.agent.record = record
        self.save(record)

    @property
    def written(self) -> Record:
        """What the disk holds now."""
        return self.agent.releases.load()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Of a node that was enrolled."""
    require_package("cryptography", "hub")
    require_package("aiohttp", "hub")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with agent_in(enrolled_node(tmp_path)) as agent:
        yield Site(agent, monkeypatch)


def test_a_trial_that_was_passed_on_a_full_disk_is_committed_once_there_is_room(site: Site) -> None:
    async def case() -> None:
        site.start(replace(OLD, phase=Phase.STAGED, tries=0))
        await site.agent._boot_up()
        await site.ticks(1)
        site.full = True
        await site.ticks()
        assert (site.written.phase, site.pipeline.generation) == (Phase.TRIAL, 2)
        site.full = False
        await site.ticks()

    asyncio.run(case())
    assert (site.written.current, site.written.phase, site.pipeline.started) == (2, Phase.RESTING, [1, 2])


def test_a_commit_that_found_no_room_is_done_again(site: Site) -> None:
    async def case() -> None:
        site.start(replace(OLD, phase=Phase.STAGED, tries=0))
        site.stuck = True
        await site.agent._boot_up()
        await site.ticks()
        assert site.written.phase is Phase.COMMITTING
        site.stuck = False
        await site.ticks(1)

    asyncio.run(case())
    assert (site.written.current, site.written.phase, site.pipeline.started) == (2, Phase.RESTING, [1, 2])


def test_after_a_start_in_a_trial_the_committed_release_runs_also_where_the_disk_is_full(site: Site) -> None:
    async def case() -> None:
        site.start(OLD)
        site.full = True
        await site.agent._boot_up()
        await site.ticks()

    asyncio.run(case())
    assert (site.agent.record.phase, site.pipeline.started) == (Phase.STAGED, [1])


def test_after_a_start_in_a_commit_that_finds_no_room_the_release_before_runs(site: Site) -> None:
    async def case() -> None:
        site.start(replace(OLD, phase=Phase.COMMITTING))
        site.stuck = True
        await site.agent._boot_up()
        await site.ticks()

    asyncio.run(case())
    assert site.pipeline.started == [1]


def test_a_release_that_could_not_be_started_is_started_again(site: Site) -> None:
    async def case() -> None:
        site.start(Record(current=1, highest=1))
        site.pipeline.refuses = 2
        await site.agent._boot_up()
        await site.ticks()

    asyncio.run(case())
    assert site.pipeline.generation == 1


def test_the_rung_of_a_pipeline_ends_with_it_and_the_rest_stays_known(site: Site) -> None:
    async def case() -> None:
        site.start(Record(current=1, highest=1))
        site.agent._vehicle.said({"rung": 2, "battery": 0.5, "armed": True})
        await site.agent._boot_up()

    asyncio.run(case())
    assert site.agent._vehicle.known == {"battery": 0.5, "armed": True}


def test_a_trial_that_could_not_be_started_on_a_full_disk_ends_in_one_release_that_runs(site: Site) -> None:
    async def case() -> None:
        site.start(replace(OLD, phase=Phase.STAGED, tries=0))
        await site.agent._boot_up()
        site.pipeline.refuses = 1
        saved: list[Record] = []
        site.save = lambda record: (
            saved.append(record) if record.phase is not Phase.RESTING else site._unless(True, int)
        )
        await site.ticks(1)
        assert (site.agent.record.phase, site.pipeline.generation) == (Phase.TRIAL, 0)
        site.save = saved.append
        await site.ticks(2)

    asyncio.run(case())
    assert site.agent.record.running == site.pipeline.generation != 0


def test_of_two_events_at_once_the_second_meets_what_the_first_has_left(site: Site) -> None:
    async def case() -> None:
        site.start(replace(OLD, phase=Phase.STAGED, tries=0))
        await asyncio.gather(
            site.agent._hear(RolloutEvent.ALLOWED), site.agent._hear(RolloutEvent.WANTED, generation=3)
        )

    asyncio.run(case())
    assert site.written == site.agent.record
    assert (site.written.phase, site.written.candidate, site.pipeline.started) == (Phase.TRIAL, 2, [2])
