"""One Ray actor for many runs, which die, and die with their owners."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.cluster.ray_cluster import ray_cluster_here
from tests.deploy.cluster.shared_stages import Notes
from tests.deploy.cluster.test_shared import Talk, alive, hold, pipeline_of
from thalweg.deploy.cluster import shared_actor

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, of sockets and processes it leaves to the collector


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Any]:
    """A head with room for one worker of each test, not for two."""
    with ray_cluster_here(num_cpus=2, resources={"pool": 2}) as found:
        yield found


ON_RAY = {"launcher": "ray", "resources": {"pool": 1}}


def test_two_runs_share_an_actor_and_when_it_dies_each_goes_on_from_its_own_state_in_another() -> None:
    async def case(one: Talk, other: Talk) -> None:
        pid, _ = await one.ask("a")
        assert await other.ask("b") == (pid, "b")
        os.kill(pid, signal.SIGKILL)
        new, told = await one.ask("c")
        assert told == "a c"
        assert await other.ask("d") == (new, "b d")
        assert new != pid
        assert all([p.recovered for p in talk.run.problems] == [True] for talk in (one, other))

    hold(pipeline_of(Notes, **ON_RAY), case)


ASKS = """
import asyncio
from tests.deploy.cluster.ray_cluster import ray_cluster_here
from tests.deploy.cluster.shared_stages import Notes
from tests.deploy.cluster.test_shared import Talk, pipeline_of

async def main():
    async with pipeline_of(Notes, name="lent", launcher="ray", resources={"pool": 1}).run() as run:
        pid, told = await Talk(run).ask("b")
        print(pid, told, flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_runs_of_two_processes_share_an_actor_and_one_that_is_killed_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_actor, "EMPTY_S", 10.0)
    monkeypatch.setattr(shared_actor, "SILENT_S", 10.0)

    async def main() -> None:
        async with asyncio.timeout(300):
            async with pipeline_of(Notes, name="lent", **ON_RAY).run() as run:
                one = Talk(run)
                pid, _ = await one.ask("a")
                other = await asyncio.create_subprocess_exec(sys.executable, "-c", ASKS, stdout=subprocess.PIPE)
                assert other.stdout is not None
                assert (await other.stdout.readline()).decode() == f"{pid} b\n"
                other.kill()
                await other.wait()
                assert await one.ask("c") == (pid, "a c")
            while alive(pid):  # noqa: ASYNC110
                await asyncio.sleep(1)

    asyncio.run(main())


OPENS = """
import asyncio, sys
from tests.deploy.cluster.shared_stages import Stuck
from thalweg import Pipeline
from thalweg.deploy.cluster import shared_actor

shared_actor.EMPTY_S = shared_actor.SILENT_S = 10.0

async def main():
    pipeline = Pipeline("stuck")
    pipeline.add("stage", Stuck, told=sys.argv[1])
    pipeline.worker("pool", shared=True, launcher="ray", resources={"pool": 1})
    pipeline.place("stage", worker="pool")
    async with pipeline.run():
        raise AssertionError("it never opens")

asyncio.run(main())
"""


def test_an_actor_in_which_a_stage_never_opens_ends_once_its_owner_has_died_and_not_before(tmp_path: Path) -> None:
    told = tmp_path / "pid"

    async def main() -> None:
        async with asyncio.timeout(300):
            owner = await asyncio.create_subprocess_exec(sys.executable, "-c", OPENS, str(told))
            while not told.exists() or not told.read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.2)
            pid = int(told.read_text())
            await asyncio.sleep(15)
            assert alive(pid), "its owner waits, and says so"
            owner.kill()
            await owner.wait()
            while alive(pid):  # noqa: ASYNC110
                await asyncio.sleep(0.5)

    asyncio.run(main())
