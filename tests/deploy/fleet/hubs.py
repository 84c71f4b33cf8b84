"""A hub in this process, and nodes that ask it, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from thalweg.deploy.door.listening import listening
from thalweg.deploy.fleet.hub.app import HubApp
from thalweg.deploy.fleet.hub.commanding import Commanding
from thalweg.deploy.fleet.hub.state import HubState
from thalweg.deploy.fleet.node.identity import Identity, enrol

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hub:
    """`address`: where it listens."""

    state: HubState
    address: str
    folder: Path
    commanding: Commanding

    async def node(self, name: str, folder: Path | None = None) -> Identity:
        """A node that was just enrolled."""
        place = folder or self.folder / f"node-{name}"
        await asyncio.to_thread(enrol, place, self.address, self.state.new_code(name))
        return Identity(place)


@asynccontextmanager
async def hub_at(folder: Path, port: int = 0) -> AsyncIterator[Hub]:
    """A hub while the block runs."""
    state = HubState(folder / "hub")
    try:
        app = HubApp(state)
        async with listening(app.door, app.application, "127.0.0.1", port, app.context()) as found:
            yield Hub(state, f"127.0.0.1:{found}", folder, app.commanding)
    finally:
        state.close()


def ask(identity: Identity, kind: str, asking: Callable[..., T], *args: object) -> T:
    """Ask with one of a node's certificates; blocking."""
    with identity.client(kind) as client:
        return asking(client, *args)
