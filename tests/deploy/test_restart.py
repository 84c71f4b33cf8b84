"""A worker dies and comes back: nothing that may not be lost is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from thalweg.deploy.deployment import Deployment
from thalweg.deploy.outcome import Outcome
from thalweg.deploy.run import bundle_of, read_spec

FAILING = Path(__file__).parent / "failing"
CHAIN = FAILING / "chain.yaml"

Meddle = Callable[[Deployment, Any], Awaitable[None]]


async def run(path: Path, settings: dict[str, Any], meddle: Meddle, within_s: float = 60) -> tuple[list[str], Outcome]:
    """Run a pipeline, meddling with it while it runs. What its sink `keep` was given, and the outcome."""
    texts = {name: str(value) for name, value in settings.items()}
    ready = asyncio.Event()
    plan = read_spec(path, texts).plan
    deployment = Deployment(plan, bundle_of(path, texts, traced=False), lambda _: None, on_ready=ready.set)
    sink: Any = deployment.hosts["local"].worker.actors["keep"].stage  # type: ignore[attr-defined]
    async with asyncio.timeout(within_s), asyncio.TaskGroup() as group:
        running = group.create_task(deployment.run())
        await ready.wait()
        await meddle(deployment, sink)
    return sink.texts, running.result()


def kill(deployment: Deployment, worker: str, number: int = signal.SIGKILL) -> None:
    """Send a signal to the process of a worker."""
    os.kill(deployment.hosts[worker].pid, number)  # type: ignore[attr-defined]


def summed(n: int) -> list[str]:
    """What `chain.yaml` comes to when nothing goes wrong."""
    totals = [f"{i}:{i * (i + 1) // 2}" for i in range(n)]
    return [text for text in [*totals, f"end:{n * (n - 1) // 2}"] for _ in range(2)]


@pytest.mark.parametrize("worker", ["middle", "last"])
def test_a_killed_worker_comes_back_and_no_packet_is_lost_or_doubled(worker: str) -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(50)
        kill(deployment, worker)

    texts, outcome = asyncio.run(run(CHAIN, {"n": 200}, meddle))
    assert texts == summed(200)
    assert [p.stage for p in outcome.problems] == [worker]
    assert "was killed by SIGKILL; it was started again" in outcome.problems[0].message


def test_two_neighbours_killed_at_once_come_back_and_no_packet_is_lost_or_doubled() -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(50)
        kill(deployment, "middle")
        kill(deployment, "last")

    texts, outcome = asyncio.run(run(CHAIN, {"n": 200}, meddle))
    assert texts == summed(200)
    assert sorted(p.stage for p in outcome.problems) == ["last", "middle"]


def test_an_operator_can_restart_a_worker_and_it_is_no_problem_of_the_run() -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(50)
        await deployment.restart("middle")

    texts, outcome = asyncio.run(run(CHAIN, {"n": 200}, meddle))
    assert texts == summed(200)
    assert outcome.problems == []
