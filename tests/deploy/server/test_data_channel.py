"""Messages that are too many, too large or not understood cost their sender, and nobody else."""

from __future__ import annotations

import asyncio

import pytest

from tests.deploy.server.serving import PATIENCE_S, Server, run
from thalweg.deploy.server.session import SessionState
from thalweg.transports.webrtc.client import Talker


def test_somebody_who_floods_the_channel_is_asked_to_leave_and_the_other_one_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("thalweg.transports.webrtc.peer.MESSAGES_PER_S", 10.0)  # a busy machine takes a hundred

    async def case(server: Server) -> None:
        async with Talker(server.url) as other:
            await server.until(lambda: server.conversations.ready)
            async with Talker(server.url) as talker:
                async with asyncio.timeout(PATIENCE_S):
                    while not talker.ended.is_set():
                        for _ in range(50):
                            talker.send({"type": "ping", "t": 1})
                        await asyncio.sleep(0.1)
                assert "expelled" in [event.get("code") for _, event in talker.events if event["type"] == "bye"]
            other.send({"type": "ping", "t": 7})
            assert (await other.next("pong"))["t"] == 7

    run(case)


@pytest.mark.parametrize("message", ["{", "[]", '{"v": 9, "type": "stop"}', '{"v": 1, "type": "fly"}', "x" * 5000])
def test_a_message_that_is_no_control_is_answered_and_ignored(message: str) -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as talker:
            talker._channel.send(message)
            assert (await talker.next("trouble"))["code"] == "bad-message"
            talker.send({"type": "ping", "t": 1})
            assert (await talker.next("pong"))["t"] == 1

    run(case)


def test_a_message_of_many_megabytes_ends_that_conversation_only() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as other:
            await server.until(lambda: server.conversations.ready)
            async with Talker(server.url) as talker:
                talker._channel.transport._remote_max_message_size = 0  # a client that ignores what we announced
                talker._channel.send("x" * 50_000_000)
                await asyncio.sleep(1.0)
            other.send({"type": "ping", "t": 7})
            assert (await other.next("pong"))["t"] == 7

    run(case)


def test_who_never_speaks_gets_silence_and_harms_nobody() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url):
            await asyncio.sleep(1.0)
            assert next(iter(server.conversations.sessions.values())).state is SessionState.TALKING

    run(case)
