"""Running a plan: hosts are started together, step by step, and end together.

What happens when one is lost while it runs: that is a problem of the run; its edges end at their other ends, what
the remaining hosts have is worked off, and the outcome says what is missing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from thalweg.deploy.host import Bundle, Host, choose_transport
from thalweg.deploy.outcome import Outcome, Problem, merge
from thalweg.deploy.stats import WorkerStats
from thalweg.deploy.subprocesses import SubprocessHost
from thalweg.deploy.worker import StartError
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.plan import GRPC, LOCAL, MEMORY, Plan, WorkerPlan
from thalweg.transports.tls import make_certificates

T = TypeVar("T")

STATS_S = 2.0


class AnyHost(Protocol):
    """A host, wherever it is."""

    name: str

    async def prepare(self) -> str:
        """See `Host.prepare`."""
        ...

    async def listen(self, edges: Mapping[str, str], address: str, certificates: list[bytes] | None) -> dict[str, str]:
        """See `Host.listen`."""
        ...

    async def connect(self, routes: Mapping[str, tuple[str, str]], certificates: list[bytes] | None) -> None:
        """See `Host.connect`."""
        ...

    async def open(self) -> None:
        """See `Host.open`."""
        ...

    async def run(self) -> Outcome:
        """See `Host.run`."""
        ...

    async def stats(self) -> WorkerStats:
        """See `Host.stats`."""
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
    """The hosts of one plan. `run` may be awaited once.

    `on_ready` is called once every stage is open, before anything runs. `logs`: an existing folder in which each
    subprocess writes what it prints, to `WORKER.log`, after what is there; without one they print where we do.
    """

    def __init__(
        self,
        plan: Plan,
        bundle: Bundle,
        on_problem: Callable[[Problem], None],
        *,
        on_ready: Callable[[], None] | None = None,
        logs: Path | None = None,
    ) -> None:
        self.stopped = False
        self.hurried = False
        self._plan = plan
        self._on_problem = on_problem
        self._on_ready = on_ready
        self._logs = logs
        self.hosts = {worker.name: self._launch(worker, bundle) for worker in plan.workers.values()}

    async def run(self) -> Outcome:
        """Start every host, run to the end, close them. Raises StartError where one could not start."""
        try:
            places = await self._all(lambda host: host.prepare())
            kinds = self._transports(places)
            certificates = None
            if GRPC in kinds.values():
                made = make_certificates()
                certificates = [made.authority, made.certificate, made.key]
            bind = "127.0.0.1" if len(set(places.values())) == 1 else ""
            addresses = await self._all(lambda host: host.listen(self._incoming(host.name, kinds), bind, certificates))
            routes = self._routes(kinds, addresses)
            await self._all(lambda host: host.connect(routes[host.name], certificates))
            await self._all(lambda host: host.open())
            if self._on_ready is not None:
                self._on_ready()
            for host in self.hosts.values() if self.stopped else ():  # one that was not there yet heard nothing
                host.abandon() if self.hurried else host.stop()
            outcomes = await asyncio.gather(*(self._run(host) for host in self.hosts.values()))
            return merge(outcomes)
        finally:
            await asyncio.gather(*(host.close() for host in self.hosts.values()))

    async def stats(self) -> dict[str, WorkerStats | None]:
        """Worker → what is going on there; None for one that is gone or does not answer within `STATS_S`."""
        found = await asyncio.gather(*(_stats(host) for host in self.hosts.values()))
        return dict(zip(self.hosts, found, strict=True))

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
        log = None if self._logs is None else self._logs / f"{worker.name}.log"
        return SubprocessHost(worker.name, bundle, self._on_problem, log)

    def _transports(self, places: Mapping[str, str]) -> dict[str, str]:
        """Edge → transport, of all edges between two workers."""
        return {
            edge.name: choose_transport(edge.transport, places[edge.source], places[edge.target])
            for edge in self._plan.edges.values()
            if edge.transport != MEMORY
        }

    def _incoming(self, name: str, kinds: Mapping[str, str]) -> dict[str, str]:
        return {edge: kind for edge, kind in kinds.items() if self._plan.edges[edge].target == name}

    def _routes(
        self, kinds: Mapping[str, str], addresses: Mapping[str, Mapping[str, str]]
    ) -> dict[str, dict[str, tuple[str, str]]]:
        routes: dict[str, dict[str, tuple[str, str]]] = {name: {} for name in self.hosts}
        for name, kind in kinds.items():
            edge = self._plan.edges[name]
            routes[edge.source][name] = (kind, addresses[edge.target][kind])
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


async def _stats(host: AnyHost) -> WorkerStats | None:
    try:
        async with asyncio.timeout(STATS_S):
            return await host.stats()
    except (ThalwegError, TimeoutError):
        return None
