"""A deployment on two hosts: the link is cut and restored, a worker stands still, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_lab, require_package
from tests.deploy.cluster.test_restart import FAILING, spec_and_bundle
from tests.netlab import Lab, Link, lab
from thalweg.deploy.cluster import deployment as deploying
from thalweg.deploy.cluster.deployment import Deployment
from thalweg.deploy.cluster.order import Order
from thalweg.deploy.cluster.remote import RemoteHost
from thalweg.deploy.cluster.subprocess_host import SubprocessCarrier, start_child
from thalweg.deploy.ops.observing.outcome import Outcome

TWO_HOSTS = FAILING / "two_hosts.yaml"
Meddle = Callable[[Deployment, Lab, Callable[[int], Awaitable[None]]], Awaitable[None]]


def summed(n: int) -> list[str]:
    """What `two_hosts.yaml` comes to."""
    return [*(f"{i}:{i * (i + 1) // 2}" for i in range(n)), f"end:{n * (n - 1) // 2}"]


def wait_for_lines(path: Path, lines: int) -> None:
    """Until a file has so many."""
    while len(path.read_text(encoding="utf-8").splitlines()) < lines:
        time.sleep(0.05)


def run_between_hosts(
    monkeypatch: pytest.MonkeyPatch, path: Path, meddle: Meddle, n: int, **settings: str
) -> tuple[list[str], Outcome, Deployment]:
    """Run it with each worker on a host of its own name. What was written to `path`."""
    for module in ("grpc", "cryptography"):
        require_package(module, "grpc")
    require_lab()
    path.touch()

    async def has(lines: int) -> None:
        await asyncio.to_thread(wait_for_lines, path, lines)

    with lab("near", "far", link=Link(delay_ms=5)) as net:

        class CarrierThere(SubprocessCarrier):
            async def start(self) -> None:
                if self._child is not None:  # the one that is kept ready is on neither host
                    await self._child.dismiss()
                self._child = await start_child(net.hosts[self._name].command([]))
                await super().start()

        def there(order: Order, child: Any = None) -> RemoteHost:
            name = order.worker.name
            return RemoteHost(name, CarrierThere(name, order.bundle, order.on_problem, order.log, child))

        monkeypatch.setattr(deploying, "launch", there)

        async def main() -> tuple[Outcome, Deployment]:
            texts = {"path": str(path), "n": str(n), **settings}
            deployment = Deployment(*spec_and_bundle(TWO_HOSTS, texts), lambda _: None)
            async with asyncio.timeout(120), asyncio.TaskGroup() as group:
                running = group.create_task(deployment.run())
                await deployment.ready.wait()
                await meddle(deployment, net, has)
            return running.result(), deployment

        outcome, deployment = asyncio.run(main())
    return path.read_text(encoding="utf-8").splitlines(), outcome, deployment


@pytest.mark.parametrize("restart", ["never", "on_failure"])
def test_a_link_that_is_cut_for_five_seconds_and_restored_costs_nothing(
    restart: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def meddle(deployment: Deployment, net: Lab, has: Callable[[int], Awaitable[None]]) -> None:
        await has(100)
        net.change(Link(delay_ms=5, outages=((0, 5),)))

    texts, outcome, deployment = run_between_hosts(monkeypatch, tmp_path / "out", meddle, 600, restart=restart)
    assert texts == summed(600)
    assert outcome.problems == []
    assert deployment.restarts == {"near": 0, "far": 0}


def test_a_worker_that_stands_still_for_five_seconds_goes_on_as_if_nothing_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def meddle(deployment: Deployment, net: Lab, has: Callable[[int], Awaitable[None]]) -> None:
        await has(100)
        os.kill(deployment.hosts["far"].pid, signal.SIGSTOP)  # type: ignore[union-attr]
        await asyncio.sleep(5)
        os.kill(deployment.hosts["far"].pid, signal.SIGCONT)  # type: ignore[union-attr]

    texts, outcome, deployment = run_between_hosts(monkeypatch, tmp_path / "out", meddle, 600)
    assert texts == summed(600)
    assert outcome.problems == []
    assert deployment.restarts == {"near": 0, "far": 0}


def test_a_worker_that_dies_while_the_link_is_cut_comes_back_to_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def meddle(deployment: Deployment, net: Lab, has: Callable[[int], Awaitable[None]]) -> None:
        await has(100)
        net.change(Link(delay_ms=5, outages=((0, 5),)))
        await asyncio.sleep(1)
        os.kill(deployment.hosts["far"].pid, signal.SIGKILL)  # type: ignore[union-attr]

    texts, outcome, deployment = run_between_hosts(monkeypatch, tmp_path / "out", meddle, 600)
    assert texts == summed(600)
    assert [(p.stage, p.recovered) for p in outcome.problems] == [("far", True)]
    assert deployment.restarts == {"near": 0, "far": 1}
