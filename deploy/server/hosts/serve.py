"""`thalweg serve FILE --on …`: a front, and the hosts that its conversations run on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from thalweg.deploy.cluster.host import Bundle
from thalweg.deploy.server.hosts.front import Front
from thalweg.deploy.server.hosts.subprocesses import SubprocessHosts, hosts_folder
from thalweg.deploy.server.settings import ServerSettings
from thalweg.pipeline.file.spec import Spec

SUBPROCESS, RAY = "subprocess", "ray"
HEADLESS, HEADLESS_S = "RAY_gcs_rpc_server_reconnect_timeout_s", "86400"
"""How long a process of Ray outlives the head of its cluster: 60 s by Ray's default, and conversations end with it."""
LAUNCHERS = (SUBPROCESS, RAY)
TICK_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where conversations run: `on` one of `LAUNCHERS`. `count`: of hosts, on this machine; `address`: of Ray."""

    on: str
    count: int = 2
    address: str = ""


class Launcher(Protocol):
    """Keeps hosts for a front."""

    async def run(self) -> None:
        """Until cancelled."""
        ...

    async def end(self) -> None:
        """The front ends, and with it the hosts that belong to no other front."""
        ...


def front_of(
    spec: Spec, bundle: Bundle, settings: ServerSettings, placed: Placed
) -> tuple[Front, Callable[[asyncio.Event, asyncio.Event, asyncio.Event], Awaitable[None]]]:
    """A front, and what runs it until `stopping`, or `leaving` without its hosts; `hurry`: do not wait for visitors."""
    front = Front(spec, settings, bundle.digest)
    launcher = _launcher(front, bundle, settings, placed)

    async def until(stopping: asyncio.Event, hurry: asyncio.Event, leaving: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            following, keeping = group.create_task(front.run()), group.create_task(launcher.run())
            waiting = [group.create_task(event.wait()) for event in (stopping, leaving)]
            await asyncio.wait([following, keeping, *waiting], return_when=asyncio.FIRST_COMPLETED)
            front.draining = True
            keeping.cancel()
            if not leaving.is_set():
                if placed.on == SUBPROCESS:
                    await _talked_out(front, settings.drain_s, hurry)
                await launcher.end()
            for task in (following, *waiting):
                task.cancel()

    return front, until


def _launcher(front: Front, bundle: Bundle, settings: ServerSettings, placed: Placed) -> Launcher:
    if placed.on == RAY:
        from thalweg.deploy.server.hosts.ray_hosts import RayHosts

        if placed.address:
            os.environ["RAY_ADDRESS"] = placed.address
        os.environ.setdefault(HEADLESS, HEADLESS_S)
        return RayHosts(front, bundle, settings)
    folder = hosts_folder(front.spec.graph.name, settings.port)
    return SubprocessHosts(front, bundle, settings, placed.count, folder)


async def _talked_out(front: Front, within_s: float, hurry: asyncio.Event) -> None:
    """Let those who talk finish, for a while."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    while loop.time() < until_s and not hurry.is_set():
        if not any(front.kept.states(name)["talking"] for name in front.links):
            return
        await asyncio.sleep(TICK_S)
