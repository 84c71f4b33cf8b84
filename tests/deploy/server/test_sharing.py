"""Conversations of one server whose language model is on a worker that they share."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from tests.conftest import require_package
from tests.deploy.server.serving import SETTINGS, Server, run
from thalweg.deploy.bench.dialogue.scripted import pipeline
from thalweg.deploy.runtime.tasks import beside

SHARED = """
workers:
  pool: {shared: true}
placement:
  chat: pool
"""


@pytest.fixture(autouse=True)
def needs_webrtc() -> None:
    require_package("aiortc", "webrtc")


def test_two_people_share_a_worker_and_after_its_death_each_goes_on_with_what_they_said() -> None:
    from thalweg.deploy.bench.dialogue.talkers import Person

    def pids(server: Server) -> set[int]:
        sessions = server.conversations.sessions.values()
        return {session.deployment.hosts["pool"].pid or 0 for session in sessions}  # type: ignore[union-attr]

    async def case(server: Server) -> None:
        one, other = Person(server.url), Person(server.url)
        async with AsyncExitStack() as stack:
            for person in (one, other):
                await stack.enter_async_context(person.talker)
                await stack.enter_async_context(beside(person.talker.stay()))
            assert await asyncio.gather(one.ask("one"), other.ask("two")) == ["one", "two"]
            (before,) = pids(server)
            os.kill(before, signal.SIGKILL)
            told = await asyncio.gather(one.ask("three"), other.ask("four"))
            assert told == ["one and three", "two and four"]
            (after,) = pids(server)
            assert after not in (before, 0)
            assert server.conversations.talking == 2

    run(case, replace(SETTINGS, per_address=10), pipeline() + SHARED)
