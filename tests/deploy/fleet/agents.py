"""Agents that were made and do not run, for tests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.fleet.hubs import hub_at
from thalweg.deploy.fleet.node.agent import Agent


def enrolled_node(folder: Path) -> Path:
    """The folder of a node that a hub has taken."""

    async def enrolled() -> Path:
        async with hub_at(folder) as hub:
            return (await hub.node("drone-7")).folder

    return asyncio.run(enrolled())


@contextmanager
def agent_in(folder: Path) -> Iterator[Agent]:
    """Use it as a context: it lets go of the folder."""
    agent = Agent(folder)
    try:
        yield agent
    finally:
        agent.spool.close()
        os.close(agent._lock)
