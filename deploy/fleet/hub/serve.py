"""Running a hub, and telling a running one what to do: over its control socket, as deployments are told."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalweg.deploy.door.listening import listening
from thalweg.deploy.door.names import told_names
from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.hub.acting import KEY
from thalweg.deploy.fleet.hub.app import HubApp
from thalweg.deploy.fleet.hub.commanding import AskedVideo, Commanding
from thalweg.deploy.fleet.hub.overview import newest_events, overview
from thalweg.deploy.fleet.hub.page import HubPage
from thalweg.deploy.fleet.hub.state import HubState
from thalweg.deploy.ops.keeping.control import Control, ControlServer
from thalweg.deploy.ops.keeping.deployments import KeepingError
from thalweg.pipeline.fleet.gate import Gate
from thalweg.stages.io.terminal import say

log = logging.getLogger(__name__)

REMOVE_S = 3600.0
"""How often what is too old is removed."""


@dataclass(frozen=True, slots=True)
class _Place:
    """What `Control` needs to know of its peer."""

    name: str
    path: Path


def run_hub(folder: Path, host: str, port: int, page: tuple[str, int] | None, keep_days: float | None = None) -> int:
    """Be a hub until Ctrl-C. `keep_days`: how long what nodes send is kept; None: without a limit.

    Raises FleetError where it cannot listen, or another one runs in this folder.
    """
    state = HubState(folder)
    try:
        return asyncio.run(_run(state, host, port, page, keep_days))
    except OSError as error:
        raise FleetError(f"the hub cannot listen at {host}:{port}, or at its page: {error.strerror or error}") from None
    finally:
        state.close()


async def _run(state: HubState, host: str, port: int, page: tuple[str, int] | None, keep_days: float | None) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    app = HubApp(state)
    calls = _calls(state, app.commanding)
    control = ControlServer(calls)
    async with AsyncExitStack() as stack:
        found = await stack.enter_async_context(listening(app.door, app.application, host, port, app.context()))
        say(f"hub of {len(state.nodes)} node(s) at {host}:{found}, in {state.folder}", err=True)
        if page is not None:
            shown = HubPage(state, calls, told_names(), app.commanding.video)
            at = await stack.enter_async_context(listening(shown.door, shown.application, *page))
            key = state.folder / KEY
            say(f"its page is at http://{page[0]}:{at}/; who changes something there needs the key in {key}", err=True)
        await control.start(state.folder)
        stack.push_async_callback(control.close)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        removing = group.create_task(_remove_old(state, keep_days))
        await stopping.wait()
        removing.cancel()
    return 0


async def _remove_old(state: HubState, keep_days: float | None) -> None:
    while keep_days is not None:
        removed = await asyncio.to_thread(state.remove_records, keep_days)
        if removed:
            log.info("%d segments of records older than %g days were removed", removed, keep_days)
        await asyncio.sleep(REMOVE_S)


def _calls(state: HubState, commanding: Commanding) -> dict[str, Any]:
    taking = asyncio.Lock()

    async def enrol(name: str, lends: str = "") -> str:
        return state.new_code(name, lends)

    async def revoke(name: str) -> None:
        state.revoke(name)

    async def command(name: str, action: str, settings: dict[str, float], valid_s: float) -> str:
        made, data = state.command(name, action, settings, valid_s)
        asked = AskedVideo(
            id=made, instance=state.nodes[name]["report"]["instance"], seconds=settings.get("seconds", 0)
        )
        if action == "video":
            commanding.video[name] = asked
        asked.fetched = taken = await commanding.give(name, data, valid_s)
        return f"{made} was {'fetched' if taken else 'not fetched in time, and is void'}"

    async def nodes() -> Any:
        return await asyncio.to_thread(overview, state)

    async def events(name: str) -> Any:
        return await asyncio.to_thread(newest_events, state, name)

    async def rollout(
        pipeline: str, files: dict[str, str], settings: dict[str, str], nodes: list[str], gate: dict[str, Any]
    ) -> Any:
        paths = {name: Path(path) for name, path in files.items()}
        wanted = Gate(**{**gate, "outputs": tuple(gate.get("outputs", ()))})
        async with taking:
            artefacts = await asyncio.to_thread(state.keep, paths)
        return state.roll_out(pipeline, artefacts, settings, wanted, nodes)

    async def rollback(generation: int, nodes: list[str]) -> Any:
        return state.roll_back(generation, nodes)

    return {call.__name__: call for call in (enrol, revoke, command, nodes, events, rollout, rollback)}


@contextmanager
def asking(folder: Path) -> Iterator[Control]:
    """A running hub, to be asked. Raises FleetError where none runs there, or it cannot do what it was asked."""
    try:
        with Control(_Place("the hub", folder)) as control:
            yield control
    except KeepingError as error:
        if not (folder / "control.sock").exists():
            raise FleetError(f"no hub runs in {folder}: `thalweg hub run` starts one") from None
        raise FleetError(str(error)) from None
