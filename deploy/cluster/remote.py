"""A host elsewhere: the calls of `Host`, taken there by a carrier.

What may be asked of a host is written down twice: in `Host`, which does it, and here, where it is put into plain values
and sent. How it gets there is a `Carrier` with three ways to speak to the other side: a subprocess has one
(`subprocess_host.py`), a Ray actor another (`ray_host.py`), and a third-party launcher brings its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from thalweg.deploy.cluster.heartbeat import Beat
from thalweg.deploy.cluster.host import Routes
from thalweg.deploy.errors import StartError
from thalweg.deploy.ops.observing.outcome import Outcome
from thalweg.deploy.ops.observing.stats import WorkerStats
from thalweg.deploy.runtime.remembering import Memory
from thalweg.pipeline.errors import ThalwegError


class WorkerLost(ThalwegError):
    """A worker that is gone: its process ended without being told to. `cleanly`: by itself, with code 0."""

    def __init__(self, message: str, *, cleanly: bool = False) -> None:
        super().__init__(message)
        self.cleanly = cleanly


class RemoteError(ThalwegError):
    """What a worker elsewhere could not do, in its own words."""


class WorkerFull(StartError):
    """A shared worker that has as many runs as it may. `everywhere`: it is the only one in the cluster."""

    def __init__(self, worker: str, runs: int, *, everywhere: bool) -> None:
        super().__init__(f"worker {worker} is full: `shared: {{runs: {runs}}}` allows no more")
        self.everywhere = everywhere


class Carrier(Protocol):
    """How a host elsewhere is started, spoken to and ended."""

    async def start(self) -> None:
        """Have a `Host` made there. Raises RemoteError where that cannot be, ThalwegError as `Host` does."""
        ...

    async def call(self, name: str, *args: Any) -> Any:
        """Call a method of the host with plain values (MessagePack's) and return what it returns, as plain values.

        Raises RemoteError with what it raised there, WorkerLost where the worker is gone.
        """
        ...

    def post(self, name: str) -> None:
        """As `call`, without arguments. Returns at once; a result or failure is not reported."""
        ...

    def kill(self, reason: str) -> None:
        """End it at once: who waits for it is told that it is gone, and `reason`. Idempotent."""
        ...

    async def close(self) -> None:
        """Leave nothing behind. Idempotent."""
        ...


class RemoteHost:
    """The same calls as `Host`, done elsewhere. Each may raise WorkerLost. `close` must be awaited in the end."""

    def __init__(self, name: str, carrier: Carrier) -> None:
        self.name = name
        self.carrier = carrier

    @property
    def pid(self) -> int | None:
        """The process on this machine, where it is one."""
        return getattr(self.carrier, "pid", None)

    async def prepare(self) -> str:
        """See `Host.prepare`."""
        await self.carrier.start()
        return str(await self.carrier.call("prepare"))

    async def listen(self, edges: Mapping[str, str], address: str, certificates: list[bytes] | None) -> dict[str, str]:
        """See `Host.listen`."""
        addresses: dict[str, str] = await self.carrier.call("listen", dict(edges), address, certificates)
        return addresses

    async def connect(self, routes: Routes, certificates: list[bytes] | None) -> None:
        """See `Host.connect`."""
        await self.carrier.call("connect", _plain(routes), certificates)

    async def relink(self, routes: Routes, certificates: list[bytes] | None) -> None:
        """See `Host.relink`."""
        await self.carrier.call("relink", _plain(routes), certificates)

    async def give_up(self, edges: Sequence[str], reason: str) -> None:
        """See `Host.give_up`."""
        await self.carrier.call("give_up", list(edges), reason)

    async def restore(self, state: bytes | None, watched: bool, set_aside: Sequence[Sequence[Any]]) -> None:
        """See `Host.restore`."""
        await self.carrier.call("restore", state, watched, [list(key) for key in set_aside])

    async def configure(self, stage: str, settings: Mapping[str, object]) -> None:
        """See `Host.configure`."""
        await self.carrier.call("configure", stage, dict(settings))

    async def beat(self, stored: int) -> Beat:
        """See `Host.beat`."""
        beat: Beat = await self.carrier.call("beat", stored)
        return beat

    async def remembered(self) -> Memory:
        """See `Host.remembered`."""
        memory: Memory = await self.carrier.call("remembered")
        return memory

    async def recall(self, memory: Memory, heard: Mapping[str, Any] | None) -> None:
        """See `Host.recall`."""
        await self.carrier.call("recall", dict(memory), None if heard is None else dict(heard))

    async def open(self) -> None:
        """See `Host.open`."""
        await self.carrier.call("open")

    async def run(self) -> Outcome:
        """See `Host.run`."""
        return Outcome.from_plain(await self.carrier.call("run"))

    async def stats(self) -> WorkerStats:
        """See `Host.stats`."""
        stats: WorkerStats = await self.carrier.call("stats")
        return stats

    def stop(self) -> None:
        """See `Host.stop`."""
        self.carrier.post("stop")

    def abandon(self) -> None:
        """See `Host.abandon`."""
        self.carrier.post("abandon")

    def kill(self, reason: str) -> None:
        """See `Carrier.kill`."""
        self.carrier.kill(reason)

    async def close(self) -> None:
        """See `Carrier.close`."""
        await self.carrier.close()


def _plain(routes: Routes) -> dict[str, list[object]]:
    return {edge: list(route) for edge, route in routes.items()}
