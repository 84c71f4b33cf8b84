"""Running a plan: hosts are started together, step by step, and end together.

What happens when one is lost while it runs: that is a problem of the run; its edges end at their other ends, what
the remaining hosts have is worked off, and the outcome says what is missing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from thalweg.deploy.host import Bundle, Host, choose_transport
from thalweg.deploy.outcome import Outcome, Problem, merge
from thalweg.deploy.subprocesses import SubprocessHost
from thalweg.deploy.worker import StartError
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.plan import LOCAL, MEMORY, Plan, WorkerPlan

T = TypeVar("T")


class AnyHost(Protocol):
    """A host, wherever it is."""

    name: str

    async def prepare(self) -> dict[str, str]:
        """See `Host.prepare`."""
        ...

    async def connect(self, routes: Mapping[str, tuple[str, str]]) -> None:
        """See `Host.connect`."""
        ...

    async def open(self) -> None:
        """See `Host.open`."""
        ...

    async def run(self) -> Outcome:
        """See `Host.run`."""
        ...

    def stop(self) -> None:
        """See `Host.stop`."""
        ...

    def abandon(self) -> None:
        """See `Host.abandon`."""
        ...

    async def close(self) -> None:
        """Leave nothing behind."""
        ...


class LocalHost(Host):
    """A host in this process."""

    async def close(self) -> None:
        """Nothing is left to do: `run` has closed the stages."""


class Deployment:
    """The hosts of one plan. `run` may be awaited once."""

    def __init__(self, plan: Plan, bundle: Bundle, on_problem: Callable[[Problem], None]) -> None:
        self.stopped = False
        self.hurried = False
        self._plan = plan
        self._on_problem = on_problem
        self.hosts = {worker.name: self._launch(worker, bundle) for worker in plan.workers.values()}

    async def run(self) -> Outcome:
        """Start every host, run to the end, close them. Raises StartError where one could not start."""
        try:
            addresses = await self._all(lambda host: host.prepare())
            routes = self._routes(addresses)
            await self._all(lambda host: host.connect(routes[host.name]))
            await self._all(lambda host: host.open())
            outcomes = await asyncio.gather(*(self._run(host) for host in self.hosts.values()))
            return merge(outcomes)
        finally:
            await asyncio.gather(*(host.close() for host in self.hosts.values()))

    def stop(self) -> None:
        """End every source. Idempotent."""
        self.stopped = True
        for host in self.hosts.values():
            host.stop()

    def abandon(self) -> None:
        """Give up what is under way everywhere. Idempotent."""
        self.stop()
        self.hurried = True
        for host in self.hosts.values():
            host.abandon()

    def _launch(self, worker: WorkerPlan, bundle: Bundle) -> AnyHost:
        if worker.launcher == LOCAL:
            return LocalHost(worker.name, bundle, self._on_problem)
        if worker.launcher == "ray":
            from thalweg.deploy.rayhost import RayHost

            return RayHost(worker, bundle, self._on_problem)
        return SubprocessHost(worker.name, bundle, self._on_problem)

    def _routes(self, addresses: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, tuple[str, str]]]:
        routes: dict[str, dict[str, tuple[str, str]]] = {name: {} for name in self.hosts}
        for edge in self._plan.edges.values():
            if edge.transport != MEMORY:
                there = addresses[edge.target]
                kind = choose_transport(edge.transport, addresses[edge.source]["host"], there["host"])
                routes[edge.source][edge.name] = (kind, there.get(kind, ""))
        return routes

    async def _all(self, step: Callable[[AnyHost], Awaitable[T]]) -> dict[str, T]:
        """Take a step on every host at once. Raises StartError with what each one said that could not."""
        found = await asyncio.gather(*(step(host) for host in self.hosts.values()), return_exceptions=True)
        wrong = []
        done: dict[str, T] = {}
        for name, outcome in zip(self.hosts, found, strict=True):
            if isinstance(outcome, ThalwegError):
                wrong.append(str(outcome))
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                done[name] = outcome
        if wrong:
            raise StartError("\n".join(dict.fromkeys(wrong)))
        return done

    async def _run(self, host: AnyHost) -> Outcome:
        try:
            return await host.run()
        except ThalwegError as error:
            now_ns = time.monotonic_ns()
            problem = Problem(stage=host.name, message=str(error), epoch=0, time_ns=now_ns)
            self._on_problem(problem)
            return Outcome(now_ns, now_ns, problems=[problem], problem_count=1)
