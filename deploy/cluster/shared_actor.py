"""A Ray actor that the runs of a cluster share: found by its name, so that conversation hosts on any node join it.

It is detached, since who made it may go before the others. Owners say every `ALIVE_S` that they are there, whatever
else they wait for: a run whose owner said nothing for `SILENT_S` is forgotten (`Hosts.expired`), and an actor that
holds none for `EMPTY_S` ends. Who comes in that moment, or behind a death that the cluster has not noticed, finds an
actor that is about to be gone, and tries again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import thalweg
from thalweg.deploy.cluster.code import code_digest
from thalweg.deploy.cluster.order import Order
from thalweg.deploy.cluster.ray_host import CONNECT_S, PLACE_S, HostActor, aside, ask, placed, ray_here, ray_options
from thalweg.deploy.cluster.remote import RemoteError, WorkerLost
from thalweg.deploy.errors import Problem

NAMESPACE = "thalweg-shared"
RUNS = 1000
"""Each has two or three calls under way at a time."""
EMPTY_S = SILENT_S = 60.0
ALIVE_S = 5.0
LOOK_S = 1.0
AGAIN_S = 0.2


class SharedHostActor(HostActor):
    """`empty_s`: after so long without a host and a call it ends, also where it was never called, since who made it was
    gone by then; `silent_s`: after so long without a word a run is forgotten.
    """

    def __init__(self, name: str, empty_s: float, silent_s: float) -> None:
        super().__init__(name)
        self._empty_s = empty_s
        self._silent_s = silent_s
        loop = asyncio.get_running_loop()  # Ray makes actors that have async methods on their loop
        self._used_s = loop.time()
        self._looking = loop.create_task(self._look_after())

    async def call(self, whose: str, name: str, *args: Any) -> tuple[Any, str | None, list[dict[str, Any]]]:
        """See `HostActor.call`. Who has called may make a host within `empty_s`."""
        self._used_s = asyncio.get_running_loop().time()
        return await super().call(whose, name, *args)

    async def _look_after(self) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() - self._used_s < self._empty_s:
            await asyncio.sleep(LOOK_S)
            for whose in self.hosts.expired(self._silent_s):
                await self.hosts.close(whose)
                self._problems.pop(whose, None)  # no one asks for them any more
            if self.hosts.names:
                self._used_s = loop.time()
        import ray

        ray.kill(ray.get_runtime_context().current_actor)


class SharedActor:
    """See `SharedProcess`; the handle of one run."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._worker = order.worker.name
        self._actor: Any = None
        self._staying: asyncio.Task[None] | None = None

    async def join(self, whose: str, on_problem: Callable[[Problem], None]) -> None:
        """See `SharedProcess.join`. Raises RemoteError where there is no Ray, or no node on which it lives."""
        ray, lost = await ray_here(), ""
        try:
            async with placed(ray, self._order.worker):
                while True:
                    self._actor = await aside(CONNECT_S, self._find, ray)
                    try:
                        await self.call(whose, "ping")
                        self._staying = asyncio.get_running_loop().create_task(self._stay(whose))
                        return
                    except WorkerLost as error:
                        lost = str(error)
                        await asyncio.sleep(AGAIN_S)
        except RemoteError:
            if not lost:
                raise
            raise RemoteError(f"{lost}; so were all that were started within {PLACE_S:g} s") from None

    async def call(self, whose: str, name: str, *args: Any) -> Any:
        """See `SharedProcess.call`."""
        if self._actor is None:
            raise WorkerLost(f"worker {self._worker} was not found yet")
        return await ask(self._worker, self._actor, self._order.on_problem, whose, name, *args)

    def post(self, whose: str, name: str) -> None:
        """See `SharedProcess.post`."""
        if self._actor is not None:
            self._actor.call.remote(whose, name)

    def kill(self, reason: str) -> None:
        """See `SharedProcess.kill`."""
        if self._actor is not None:
            import ray

            ray.kill(self._actor)

    async def part(self, whose: str) -> None:
        """See `SharedProcess.part`: it ends by itself."""
        if self._staying is not None:
            self._staying.cancel()

    async def _stay(self, whose: str) -> None:
        """Say that this run is there, until cancelled."""
        while True:
            await asyncio.sleep(ALIVE_S)
            self.post(whose, "ping")

    def _find(self, ray: Any) -> Any:
        """The actor of this worker, which is made where there is none. Blocks."""
        options = {
            "name": self.name,
            "namespace": NAMESPACE,
            "lifetime": "detached",
            "get_if_exists": True,
            "max_concurrency": 3 * RUNS,
            **ray_options(self._order.worker.options),
        }
        return ray.remote(SharedHostActor).options(**options).remote(self._worker, EMPTY_S, SILENT_S)

    @property
    def name(self) -> str:
        """The same for all runs of the same file, with the same code of its stages, by the same version of Thalweg."""
        bundle = self._order.bundle
        code = code_digest(self._order.modules, bundle.paths)
        told = f"{bundle.digest} {bundle.traced} {bundle.stays} {thalweg.__version__} {code}"
        return f"{self._worker}-{hashlib.sha256(told.encode()).hexdigest()[:32]}"
