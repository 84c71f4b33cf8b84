"""A server to send things to, for all requests of this folder."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace

import pytest

from tests.deploy.server.serving import SETTINGS, running


@pytest.fixture(scope="session")
def port() -> Iterator[int]:
    """Of a server that echoes, in a thread of its own; it must be ready still when all is over."""
    found: Future[int] = Future()
    over: list[asyncio.Event] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        over.append(asyncio.Event())
        async with running(replace(SETTINGS, requests_per_s=10_000.0)) as server:
            found.set_result(int(server.url.rpartition(":")[2]))
            await over[0].wait()
            assert server.conversations.ready
            assert server.conversations.counts["failures"] == 0

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    yield found.result(60.0)
    loop.call_soon_threadsafe(over[0].set)
    thread.join()
    loop.close()
