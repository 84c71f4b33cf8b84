"""Coming back to a conversation after the connection was lost, and leaving nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from dataclasses import replace
from typing import Any

import pytest

from tests.deploy.server.serving import SETTINGS, Server, a_good_offer, run, tone
from thalweg.deploy.server.session import SessionState
from thalweg.transports.webrtc.client import Talker, TalkError
from thalweg.transports.webrtc.send import VoiceTrack


def test_who_comes_back_in_time_goes_on_with_the_same_conversation() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as talker:
            session = talker.session
            await talker.hang_up()
            path = f"/sessions/{session}?key={talker.key}"
            await server.until(lambda: server.conversations.sessions[session].state is SessionState.AWAY)
            assert (await server.ask("GET", path))[1] == {"stands": False}, "the connection is lost, seen from here"
            await talker.connect()
            await server.until(lambda: server.conversations.sessions[session].state is SessionState.TALKING)
            assert (await server.ask("GET", path))[1] == {"stands": True}

            def hellos() -> list[dict[str, Any]]:
                return [event for _, event in talker.events if event["type"] == "hello"]

            await server.until(lambda: len(hellos()) == 2)
            hello = hellos()
            assert [event["resumed"] for event in hello] == [False, True]
            assert {event["session"] for event in hello} == {session}

    run(case)


def test_a_new_offer_takes_the_place_of_a_connection_that_still_stands() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as talker:
            session, before = talker.session, talker._pc
            assert before is not None
            talker.voice = VoiceTrack(talker.clock)
            await talker.connect()  # what a client does instead of restarting ICE
            talker.send({"type": "ping", "t": 1})
            await talker.next("pong")
            await server.until(lambda: before.connectionState == "closed")
            await before.close()
            assert talker.session == session
            assert server.conversations.sessions[session].state is SessionState.TALKING
            assert server.conversations.sessions[session].reconnects == 1

    run(case)


def test_who_comes_back_too_late_is_told_so() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as talker:
            await talker.hang_up()
            await server.until(lambda: not server.conversations.sessions)
            with pytest.raises(TalkError) as gone:
                await talker.connect()
            assert gone.value.code == "gone"

    run(case, replace(SETTINGS, resume_s=0.5))


def test_nobody_resumes_a_conversation_without_its_key() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as talker:
            status, body = await server.offer(await a_good_offer(), session=talker.session, key="guess")
            assert (status, body["error"]) == (404, "gone")
            assert (await server.ask("DELETE", f"/sessions/{talker.session}?key=guess"))[0] == 404

    run(case)


def test_many_connects_leave_nothing_behind() -> None:
    async def case(server: Server) -> None:
        async def visit(goodbye: bool) -> None:
            async with Talker(server.url) as talker:
                await talker.voice.say(tone(0.1))
                if not goodbye:
                    talker.session = ""

        def left() -> tuple[int, int, int]:
            gc.collect()
            descriptors = len(os.listdir("/proc/self/fd"))
            return descriptors, threading.active_count(), len(asyncio.all_tasks())

        for i in range(4):
            await visit(goodbye=i % 2 == 0)
        await server.until(lambda: not server.conversations.sessions)
        await asyncio.sleep(0.5)
        before = left()
        for i in range(16):
            await visit(goodbye=i % 2 == 0)
        await server.until(lambda: not server.conversations.sessions)
        await server.until(lambda: all(b <= a + 2 for a, b in zip(before, left(), strict=True)))

    run(case, replace(SETTINGS, resume_s=0.3, per_address=100))
