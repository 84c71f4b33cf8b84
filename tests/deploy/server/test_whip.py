"""WHIP and WHEP: sending and receiving by any client."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from aiortc import RTCPeerConnection

from tests.deploy.server.serving import SETTINGS, Server, a_good_offer, run, tone
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
        await voice.say(tone(1.0))
        await server.until(lambda: sum(level > 0.2 for level in heard) >= 20)
        await sender.close()
        await listener.close()

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
