"""What is offered to the server: refused with a reason where it is nothing to talk with."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import numpy as np
import pytest
from aiortc import RTCPeerConnection

from tests.deploy.server.serving import SETTINGS, Server, a_good_offer, run, tone
from thalweg.transports.webrtc.client import Talker


def test_what_is_said_comes_back_through_the_pipeline() -> None:
    async def case(server: Server) -> None:
        heard: list[float] = []
        async with Talker(server.url) as talker:
            talker.on_audio = lambda _, samples: heard.append(float(np.abs(samples).max(initial=0.0)))
            await talker.voice.say(tone(0.5))
            await server.until(lambda: sum(level > 0.2 for level in heard) >= 20)
        await server.until(lambda: not server.conversations.sessions)

    run(case)


@pytest.mark.parametrize(
    ("sdp", "status"),
    [
        ("", 400),
        (17, 400),
        ("hello", 422),
        ("v=0\r\nm=audio", 422),
        ("v=0\r\n" * 5000, 422),
        ("m=audio\x00\xff" * 100, 422),
        ("x" * 1_000_000, 413),
    ],
)
def test_an_offer_that_is_none_is_refused_with_a_reason(sdp: object, status: int) -> None:
    async def case(server: Server) -> None:
        found, body = await server.offer(sdp)
        assert found == status
        assert body["error"] and body["message"]
        await server.until(lambda: not server.conversations.sessions)
        accepted, answer = await server.offer(await a_good_offer())
        assert accepted == 200 and answer["resume_s"] == server.conversations.settings.resume_s

    run(case)


def test_an_offer_without_audio_is_refused() -> None:
    async def case(server: Server) -> None:
        peer = RTCPeerConnection()
        peer.createDataChannel("events")
        await peer.setLocalDescription(await peer.createOffer())
        status, body = await server.offer(peer.localDescription.sdp)
        await peer.close()
        assert status == 422
        assert "audio" in body["message"]

    run(case)


def test_an_offer_with_unknown_codecs_is_refused() -> None:
    async def case(server: Server) -> None:
        sdp = (await a_good_offer()).replace("opus/48000/2", "tapedeck/48000/2")
        status, body = await server.offer(sdp)
        assert status == 422
        assert "Opus" in body["message"]

    run(case)


def test_a_body_that_is_no_json_is_refused() -> None:
    async def case(server: Server) -> None:
        assert (await server.ask("POST", "/offer", data=b"\x00\x01"))[0] == 400
        assert (await server.ask("POST", "/offer", json=[1, 2]))[0] == 400

    run(case)


def test_ice_that_never_completes_is_ended() -> None:
    async def case(server: Server) -> None:
        status, body = await server.offer(await a_good_offer())
        assert status == 200
        await server.until(lambda: body["session"] not in server.conversations.newcomers)
        assert server.conversations.counts["ended_no-connection"] == 1

    run(case, replace(SETTINGS, connect_s=0.5))


def test_a_thousand_junk_requests_do_no_harm() -> None:
    async def case(server: Server) -> None:
        async def junk(i: int) -> int:
            path = ("/offer", "/whip", "/nothing", "/web/../app.py", "/sessions/x")[i % 5]
            method = ("POST", "GET", "PATCH", "DELETE", "PUT")[i // 5 % 5]
            return (await server.ask(method, path, data=os.urandom(50)))[0]

        async with Talker(server.url) as talker:
            found = set(await asyncio.gather(*(junk(i) for i in range(1000))))
            assert max(found) < 500
            talker.send({"type": "ping", "t": 1})
            await talker.next("pong")

    run(case, replace(SETTINGS, requests_per_s=1e6))


def test_who_asks_too_often_has_to_wait() -> None:
    async def case(server: Server) -> None:
        found = [(await server.ask("GET", "/config"))[0] for _ in range(12)]
        assert found[0] == 200
        assert found[-1] == 429
        assert (await server.ask("GET", "/healthz"))[0] == 200

    run(case, replace(SETTINGS, requests_per_s=1.0))
