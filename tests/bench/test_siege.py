"""A server under all attacks of `bench siege` at once: somebody who talks is heard, and what is held is bounded."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import numpy as np

from tests.deploy.server.serving import PATIENCE_S, SETTINGS, Server, run, tone
from thalweg.deploy.bench.dialogue.attackers import ATTACKS
from thalweg.transports.webrtc.client import Talker
from thalweg.transports.webrtc.signalling import TalkError

CONNECTIONS = 400


@asynccontextmanager
async def gets_in(server: Server) -> AsyncIterator[Talker]:
    """As a person does: who is told to try again in a moment, or is cut off since all places are taken, does so."""
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    talker = await stack.enter_async_context(Talker(server.url))
                    break
                except TalkError as error:
                    if error.code != "unreachable" and "again in a moment" not in str(error):
                        raise
                    await asyncio.sleep(0.5)
        yield talker


def test_somebody_gets_in_and_is_heard_while_everybody_else_attacks() -> None:
    async def case(server: Server) -> None:
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "thalweg.deploy.bench.dialogue.attackers", server.url, *ATTACKS)
        attackers = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        try:
            counts = server.conversations.counts
            await server.until(lambda: min(counts["refused_offer"], counts["displaced"]) > 20)
            await server.until(lambda: counts["refused_came-to-nothing"] > 5)
            heard: list[float] = []
            async with gets_in(server) as talker:
                talker.on_audio = lambda _, samples: heard.append(float(np.abs(samples).max(initial=0.0)))
                await talker.voice.say(tone(0.5))
                await server.until(lambda: sum(level > 0.2 for level in heard) >= 20)
            assert counts["failures"] == counts["crashes"] == 0
        finally:
            said, _ = await attackers.communicate(b"")
        done = json.loads(said)
        assert done["headers"] > 100 and done["worthless: 422"] > 20 and done["floods: 200"] > 20
        assert not any(": 5" in kind and ": 503" not in kind for kind in done)

    run(case, replace(SETTINGS, connections=CONNECTIONS))
