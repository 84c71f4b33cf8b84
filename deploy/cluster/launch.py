"""Hosts, wherever they are: what a deployment may ask of any of them, and how one is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from thalweg.deploy.cluster.heartbeat import Beat
from thalweg.deploy.cluster.host import Bundle, Host, Routes
from thalweg.deploy.cluster.subprocess_host import Child, SubprocessHost
from thalweg.deploy.ops.observing.outcome import Outcome, Problem
from thalweg.deploy.ops.observing.stats import WorkerStats
from thalweg.pipeline.file.plan import LOCAL, WorkerPlan


class AnyHost(Protocol):
    """A host, wherever it is. Every call may raise WorkerLost."""

    name: str

    async def prepare(self) -> str:
        """See `Host.prepare`."""
        ...

    async def listen(self, edges: Mapping[str, str], address: str, certificates: list[bytes] | None) -> dict[str, str]:
        """See `Host.listen`."""
        ...

    async def connect(self, routes: Routes, certificates: list[bytes] | None) -> None:
        """See `Host.connect`."""
        ...

    async def relink(self, routes: Routes, certificates: list[bytes] | None) -> None:
        """See `Host.relink`."""
        ...

    async def give_up(self, edges: Sequence[str], reason: str) -> None:
        """See `Host.give_up`."""
        ...

    async def open(self) -> None:
        """See `Host.open`."""
        ...

    async def restore(self, state: bytes | None, watched: bool, set_aside: Sequence[Sequence[Any]]) -> None:
        """See `Host.restore`."""
        ...

    async def run(self) -> Outcome:
        """See `Host.run`."""
        ...

    async def beat(self, stored: int) -> Beat:
        """See `Host.beat`."""
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

    def kill(self, reason: str) -> None:
        """End it at once, as if it had been lost."""
        ...

    async def close(self) -> None:
        """Leave nothing behind. Idempotent."""
        ...


class LocalHost(Host):
    """A host in this process."""

    def kill(self, reason: str) -> None:
        """It lives and dies with this process."""


def launch(
    worker: WorkerPlan,
    bundle: Bundle,
    on_problem: Callable[[Problem], None],
    logs: Path | None,
    child: Child | None = None,
) -> AnyHost:
    """Make a host; nothing is started yet. `logs`: see `Deployment`. `child`: a process for a subprocess to use."""
    if worker.launcher == LOCAL:
        return LocalHost(worker.name, bundle, on_problem)
    if worker.launcher == "ray":
        from thalweg.deploy.cluster.ray_host import RayHost

        return RayHost(worker, bundle, on_problem)
    log = None if logs is None else logs / f"{worker.name}.log"
    return SubprocessHost(worker.name, bundle, on_problem, log, child)
