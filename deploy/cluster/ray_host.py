"""Launcher: a host as a Ray actor, on whatever node of the cluster has what it asks for.

Ray places and supervises; it carries the few calls that start and end a host, and no packet.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from thalweg.deploy.cluster.heartbeat import Beat
from thalweg.deploy.cluster.host import Bundle, Host, Routes
from thalweg.deploy.cluster.subprocess_host import RemoteError, WorkerLost
from thalweg.deploy.errors import describe_error
from thalweg.deploy.ops.observing.outcome import Outcome, Problem
from thalweg.deploy.ops.observing.stats import WorkerStats
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.plan import WorkerPlan

ADDRESS_HINT = "start one with `ray start --head`, or name one in RAY_ADDRESS"
PROBE_S = 5.0
_CONNECTING = threading.Lock()


class _Actor:
    """What runs in the cluster. Its answers are `(result, error text)`: Ray wraps exceptions beyond recognition."""

    def __init__(self, name: str, bundle: dict[str, Any]) -> None:
        self._name = name
        self._bundle = bundle
        self._host: Host | None = None
        self._problems: list[dict[str, Any]] = []

    def __repr__(self) -> str:
        return self._name  # how Ray begins the lines that come from here

    async def call(self, name: str, *args: Any) -> tuple[Any, str | None]:
        try:
            if name == "prepare":
                self._host = Host(self._name, Bundle(**self._bundle), lambda p: self._problems.append(asdict(p)))
            assert self._host is not None
            result = getattr(self._host, name)(*args)
            result = await result if asyncio.iscoroutine(result) else result
            return (result.plain() if isinstance(result, Outcome) else result), None
        except Exception as error:
            ours = isinstance(error, ThalwegError) or type(error).__module__.startswith("thalweg.")
            return None, str(error) if ours else describe_error(error)


class RayHost:
    """The same calls as `Host`, done by a Ray actor. `close` must be awaited in the end."""

    def __init__(self, plan: WorkerPlan, bundle: Bundle, on_problem: Callable[[Problem], None]) -> None:
        self.name = plan.name
        self._plan = plan
        self._bundle = bundle
        self._on_problem = on_problem
        self._actor: Any = None
        self._gone: asyncio.Future[str] | None = None

    async def prepare(self) -> str:
        """Make the actor. Raises RemoteError where there is no Ray, or no node that has what it asks for."""
        ray = await asyncio.to_thread(_connected_ray)
        self._gone = asyncio.get_running_loop().create_future()
        options = self._plan.options
        remote = ray.remote(_Actor).options(max_concurrency=16, **ray_options(options))
        self._actor = remote.remote(self.name, self._bundle.plain())
        try:
            async with asyncio.timeout(60):
                return str(await self._call("prepare"))
        except TimeoutError:
            wants = {key: value for key, value in options.items() if value}
            raise RemoteError(
                f"Ray did not place worker {self.name} within 60 s; it asks for {wants or 'nothing'}"
            ) from None

    async def listen(self, edges: Mapping[str, str], address: str, certificates: list[bytes] | None) -> dict[str, str]:
        """See `Host.listen`."""
        addresses: dict[str, str] = await self._call("listen", dict(edges), address, certificates)
        return addresses

    async def connect(self, routes: Routes, certificates: list[bytes] | None) -> None:
        """See `Host.connect`."""
        await self._call("connect", dict(routes), certificates)

    async def relink(self, routes: Routes, certificates: list[bytes] | None) -> None:
        """See `Host.relink`."""
        await self._call("relink", dict(routes), certificates)

    async def give_up(self, edges: Sequence[str], reason: str) -> None:
        """See `Host.give_up`."""
        await self._call("give_up", list(edges), reason)

    async def restore(self, state: bytes | None, watched: bool, set_aside: Sequence[Sequence[Any]]) -> None:
        """See `Host.restore`."""
        await self._call("restore", state, watched, [list(key) for key in set_aside])

    async def beat(self, stored: int) -> Beat:
        """See `Host.beat`. Raises WorkerLost where there is nobody to ask."""
        beat: Beat = await self._call("beat", stored)
        return beat

    async def open(self) -> None:
        """See `Host.open`."""
        await self._call("open")

    async def run(self) -> Outcome:
        """See `Host.run`. Raises WorkerLost where the actor ends first."""
        outcome = Outcome.from_plain(await self._call("run"))
        for problem in outcome.problems:
            self._on_problem(problem)
        return outcome

    async def stats(self) -> WorkerStats:
        """See `Host.stats`. Raises WorkerLost where there is nobody to ask."""
        stats: WorkerStats = await self._call("stats")
        return stats

    def stop(self) -> None:
        """See `Host.stop`."""
        if self._actor is not None:
            self._actor.call.remote("stop")

    def abandon(self) -> None:
        """See `Host.abandon`."""
        if self._actor is not None:
            self._actor.call.remote("abandon")

    def kill(self, reason: str) -> None:
        """End it at once: whoever waits for it is told that it is gone, and `reason`. Idempotent."""
        if self._actor is not None and self._gone is not None and not self._gone.done():
            import ray

            self._gone.set_result(reason)
            ray.kill(self._actor)

    async def close(self) -> None:
        """End the actor. Idempotent."""
        if self._actor is not None:
            import ray

            actor, self._actor = self._actor, None
            await asyncio.to_thread(ray.kill, actor)

    async def _call(self, name: str, *args: Any) -> Any:
        import ray

        gone = self._gone
        if self._actor is None or gone is None or gone.done():
            raise WorkerLost(f"worker {self.name} is gone: {gone.result() if gone and gone.done() else 'it has ended'}")
        answer = asyncio.ensure_future(self._actor.call.remote(name, *args))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise WorkerLost(f"worker {self.name} is gone: {gone.result()}")
            result, error = answer.result()
        except ray.exceptions.RayError as lost:
            raise WorkerLost(f"worker {self.name} is gone: {str(lost).splitlines()[0]}") from None
        finally:
            answer.cancel()
        if error is not None:
            raise RemoteError(error)
        return result


def ray_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker asks for, in Ray's words. Every node has a little of a resource named after its address."""
    resources = dict(options.get("resources", {}))
    if "host" in options:
        resources[f"node:{options['host']}"] = 0.001
    asked = {"num_cpus": options.get("cpus", 0), "num_gpus": options.get("gpus", 0), "resources": resources}
    if "labels" in options:
        asked["label_selector"] = dict(options["labels"])
    return asked


def _connected_ray() -> Any:
    """The ray module, connected to a cluster. Raises RemoteError where it is not installed or there is none."""
    try:
        import ray
    except ImportError:
        raise RemoteError("a worker wants Ray, which is missing: pip install 'thalweg[ray]'") from None
    with _CONNECTING:
        if not ray.is_initialized():
            _probe(os.environ.get("RAY_ADDRESS", ""))
            try:
                ray.init(address="auto", log_to_driver=True, logging_level=logging.WARNING, configure_logging=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                reason = str(error).splitlines()[0][:160]
                raise RemoteError(f"there is no Ray cluster to connect to: {ADDRESS_HINT} ({reason})") from None
    return ray


def _probe(address: str) -> None:
    """Fail at once where nobody listens at HOST:PORT; Ray itself would try for minutes. Raises RemoteError."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), PROBE_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise RemoteError(f"there is no Ray cluster at {address}: {reason}; {ADDRESS_HINT}") from None
