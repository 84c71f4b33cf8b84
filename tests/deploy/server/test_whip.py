"""WHIP and WHEP: sending and receiving by any client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from aiortc import RTCPeerConnection

from tests.deploy.server.serving import PATIENCE_S, SETTINGS, Server, a_good_offer, run, tone
from thalweg.deploy.server import newcomer
from thalweg.deploy.server.session import Session
from thalweg.deploy.server.settings import IceServer
from thalweg.deploy.server.trickle import Candidate, candidates_of


def test_whip_is_answered_trickled_and_deleted() -> None:
    async def case(server: Server) -> None:
        offer = await a_good_offer()
        sdp = {"Content-Type": "application/sdp"}
        async with server.http.post(server.url + "/whip", data=offer, headers=sdp) as response:
            assert (response.status, response.content_type) == (201, "application/sdp")
            where = response.headers["Location"]
            assert response.headers["Link"] == '<stun:stun.example>; rel="ice-server"'
            assert "m=audio" in await response.text()
        fragment = {"Content-Type": "application/trickle-ice-sdpfrag"}
        good = "a=mid:0\r\na=candidate:1 1 UDP 2130706431 127.0.0.1 9 typ host\r\n"
        assert (await server.ask("PATCH", where, data=good, headers=fragment))[0] == 204
        bad = "a=mid:0\r\na=candidate:nonsense\r\n"
        assert (await server.ask("PATCH", where, data=bad, headers=fragment))[0] == 422
        restart = "a=ice-ufrag:other\r\na=ice-pwd:another\r\n"
        assert (await server.ask("PATCH", where, data=restart, headers=fragment))[0] == 422
        assert (await server.ask("DELETE", where))[0] == 200
        await server.until(lambda: not (server.conversations.newcomers or server.conversations._closing))
        assert (await server.ask("DELETE", where))[0] == 404

    run(case, replace(SETTINGS, ice=(IceServer(url="stun:stun.example"),)))


def test_whip_wants_sdp() -> None:
    async def case(server: Server) -> None:
        assert (await server.ask("POST", "/whip", json={}))[0] == 415
        empty = {"Content-Type": "application/sdp"}
        assert (await server.ask("POST", "/whip", data=" ", headers=empty))[0] == 422

    run(case)


def test_one_sends_by_whip_and_another_listens_by_whep() -> None:
    async def case(server: Server) -> None:
        from thalweg.pipeline.clock import SystemClock
        from thalweg.transports.webrtc.receive import OpusIn, Tap
        from thalweg.transports.webrtc.send import VoiceTrack

        clock, heard = SystemClock(), []
        opus = OpusIn(lambda samples, at, lost: heard.append(float(np.abs(samples).max(initial=0.0))))
        voice = VoiceTrack(clock)
        sender, listener = RTCPeerConnection(), RTCPeerConnection()
        sender.addTransceiver(voice, direction="sendonly")
        Tap(
            listener.addTransceiver("audio", direction="recvonly").receiver,
            lambda packet: opus.packet(packet, clock.now_ns()),
        )
        where = await _negotiate(server, sender, "/whip")
        query = where.partition("?")[2] + "&session=" + where.partition("?")[0].rpartition("/")[2]
        await _negotiate(server, listener, f"/whep?{query}")
        async with asyncio.timeout(PATIENCE_S):
            while sum(level > 0.2 for level in heard) < 20:  # what is said before there is a pipeline is not heard
                await voice.say(tone(0.5))
        await sender.close()
        await listener.close()

    run(case)


def test_a_listener_who_comes_while_the_sender_waits_for_a_pipeline_is_added_to_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def case(server: Server) -> None:
        async with _waiting(server, monkeypatch) as (query, go_on):
            assert await _listens(server, query) == 201
            go_on.set()
            await server.until(lambda: server.conversations.sessions)
            (session,) = server.conversations.sessions.values()
            assert session.peer is not None and session.listener is not None

    run(case)


def test_a_listener_whose_answer_is_made_while_the_sender_is_given_a_pipeline_is_added_to_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = newcomer.answered

    async def case(server: Server) -> None:
        async with _waiting(server, monkeypatch) as (query, go_on):

            async def late(*given: Any) -> Any:
                go_on.set()
                await server.until(lambda: server.conversations.sessions)
                return await answered(*given)

            monkeypatch.setattr(newcomer, "answered", late)
            assert await _listens(server, query) == 201
            (session,) = server.conversations.sessions.values()
            assert session.peer is not None and session.listener is not None

    run(case)


@asynccontextmanager
async def _waiting(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A sender who is connected and gets no pipeline before the event; the query that names their conversation."""
    take, go_on = server.conversations.pipelines.take, asyncio.Event()

    async def held(*, goes_on: bool = False) -> Session:
        await go_on.wait()
        return await take(goes_on=goes_on)

    monkeypatch.setattr(server.conversations.pipelines, "take", held)
    sender = RTCPeerConnection()
    sender.addTransceiver("audio")
    where = await _negotiate(server, sender, "/whip")
    await server.until(lambda: server.conversations.arriving)
    path, _, key = where.partition("?")
    yield f"session={path.rpartition('/')[2]}&{key}", go_on
    await sender.close()


async def _listens(server: Server, query: str) -> int:
    sdp = {"Content-Type": "application/sdp"}
    return (await server.ask("POST", f"/whep?{query}", data=await a_good_offer(), headers=sdp))[0]


def test_a_listener_s_candidates_are_added_to_their_own_connection() -> None:
    async def case(server: Server) -> None:
        sender, listener = await a_good_offer(), await a_good_offer()
        sdp = {"Content-Type": "application/sdp"}
        async with server.http.post(server.url + "/whip", data=sender, headers=sdp) as response:
            where = response.headers["Location"]
        path, _, key = where.partition("?")
        query = f"session={path.rpartition('/')[2]}&{key}"
        assert (await server.ask("POST", f"/whep?{query}", data=listener, headers=sdp))[0] == 201
        (ufrag,) = {line for line in listener.splitlines() if line.startswith("a=ice-ufrag:")}
        fragment = {"Content-Type": "application/trickle-ice-sdpfrag"}
        good = f"{ufrag}\r\na=mid:0\r\na=candidate:1 1 UDP 2130706431 127.0.0.1 9 typ host\r\n"
        assert (await server.ask("PATCH", where, data=good, headers=fragment))[0] == 204
        (one,) = server.conversations.newcomers.values()
        assert one.peer is not None and one.listener is not None
        assert one.listener.candidates > one.peer.candidates

    run(case)


async def _negotiate(server: Server, peer: RTCPeerConnection, path: str) -> str:
    from aiortc import RTCSessionDescription

    await peer.setLocalDescription(await peer.createOffer())
    headers = {"Content-Type": "application/sdp"}
    async with server.http.post(server.url + path, data=peer.localDescription.sdp, headers=headers) as response:
        assert response.status == 201, await response.text()
        await peer.setRemoteDescription(RTCSessionDescription(sdp=await response.text(), type="answer"))
        return response.headers["Location"]


def test_candidates_are_read_with_their_section() -> None:
    lines = ("a=ice-ufrag:x", "m=audio 9 X 0", "a=mid:1", "a=candidate:1 1 UDP 1 h 9 typ host", "a=end-of-candidates")
    fragment = "".join(f"{line}\r\n" for line in lines)
    assert candidates_of(fragment) == [Candidate("1 1 UDP 1 h 9 typ host", "1"), Candidate("", "1")]
