"""The server against everything it should refuse, and everybody else unharmed meanwhile. A pipeline that echoes."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from aiortc import RTCPeerConnection

from thalweg.deploy.server.app import WebServer
from thalweg.deploy.server.hall import Hall
from thalweg.deploy.server.serve import ServeError, tls_context
from thalweg.deploy.server.session import SessionState
from thalweg.deploy.server.settings import IceServer, ServerSettings, SettingsError, parse_ice
from thalweg.deploy.server.whip import Candidate, candidates_of
from thalweg.pipeline.spec import load_spec
from thalweg.transports.tls import make_certificates
from thalweg.transports.webrtc.client import Talker, TalkError

PARROT = """
name: parrot
stages:
  microphone: {use: live.microphone}
  speaker: {use: live.speaker}
connections:
  - microphone -> speaker
"""
SETTINGS = ServerSettings(host="127.0.0.1", port=0, admin_token="admin", drain_s=2.0, late_s=60.0, used=60.0)
PATIENCE_S = 60.0

Case = Callable[["Server"], Awaitable[None]]


class Server:
    """A running server and ways to ask it."""

    def __init__(self, hall: Hall, url: str, http: aiohttp.ClientSession) -> None:
        self.hall = hall
        self.url = url
        self.http = http

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self.http.request(method, self.url + path, **options) as response:
            kind = response.content_type
            return response.status, await (response.json() if kind == "application/json" else response.text())

    async def offer(self, sdp: object, **more: object) -> tuple[int, Any]:
        return await self.ask("POST", "/offer", json={"sdp": sdp, **more})

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running(settings: ServerSettings) -> AsyncIterator[Server]:
    hall = Hall(load_spec(PARROT, "parrot.yaml"), settings)
    runner = web.AppRunner(WebServer(hall, settings).application)
    await runner.setup()
    await web.TCPSite(runner, settings.host, 0, ssl_context=tls_context(settings)).start()
    scheme = "https" if settings.certificate else "http"
    port = runner.addresses[0][1]
    try:
        async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as http:
            serving = group.create_task(hall.run())
            server = Server(hall, f"{scheme}://127.0.0.1:{port}", http)
            await server.until(lambda: hall.ready)
            try:
                yield server
            finally:
                for session in list(hall.sessions.values()):
                    session.end("test", "over")
                await server.until(lambda: not hall.sessions)
                serving.cancel()
    finally:
        await runner.cleanup()


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides here are of aiortc, which would not offer loopback; machines without a network run these tests too."""
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


def run(case: Case, settings: ServerSettings = SETTINGS) -> None:
    async def main() -> None:
        async with running(settings) as server:
            await case(server)

    asyncio.run(main())


async def a_good_offer() -> str:
    peer = RTCPeerConnection()
    peer.addTransceiver("audio")
    await peer.setLocalDescription(await peer.createOffer())
    sdp = peer.localDescription.sdp
    await peer.close()
    return sdp


def tone(seconds: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return (0.5 * np.sin(np.arange(round(48_000 * seconds)) * 0.05)).astype(np.float32)


def test_what_is_said_comes_back_through_the_pipeline() -> None:
    async def case(server: Server) -> None:
        heard: list[float] = []
        async with Talker(server.url) as talker:
            talker.on_audio = lambda _, samples: heard.append(float(np.abs(samples).max(initial=0.0)))
            await talker.voice.say(tone(0.5))
            await server.until(lambda: sum(level > 0.2 for level in heard) >= 20)
        await server.until(lambda: not server.hall.sessions)

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
        await server.until(lambda: not server.hall.sessions)
        assert (await server.offer(await a_good_offer()))[0] == 200

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


def test_a_wrong_token_is_refused_and_the_right_one_is_not() -> None:
    async def case(server: Server) -> None:
        with pytest.raises(TalkError) as refused:
            async with Talker(server.url, token="guess"):
                pass
        assert refused.value.code == "token"
        async with Talker(server.url, token="secret"):
            pass

    run(case, replace(SETTINGS, token="secret"))


def test_a_page_of_another_origin_may_not_connect_unless_it_is_named() -> None:
    async def case(server: Server) -> None:
        sdp = await a_good_offer()
        evil, good = ({"Origin": f"https://{name}.example"} for name in ("evil", "good"))
        status, body = await server.ask("POST", "/offer", json={"sdp": sdp}, headers=evil)
        assert (status, body["error"]) == (403, "origin")
        assert (await server.ask("POST", "/offer", json={"sdp": sdp}, headers=good))[0] == 200

    run(case, replace(SETTINGS, origins=("https://good.example",)))


def test_one_address_may_not_take_all_the_room() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url):
            await server.until(lambda: server.hall.ready)
            with pytest.raises(TalkError) as refused:
                async with Talker(server.url):
                    pass
        assert refused.value.code == "too-many"

    run(case, replace(SETTINGS, per_address=1))


def test_a_full_house_says_so_and_lets_the_next_one_in_when_somebody_leaves() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url):
            with pytest.raises(TalkError) as refused:
                async with Talker(server.url):
                    pass
            assert refused.value.code == "busy"
        await server.until(lambda: not server.hall.sessions)
        async with Talker(server.url):
            pass

    run(case, replace(SETTINGS, sessions=1))


def test_a_machine_that_does_not_keep_up_lets_nobody_else_in() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url):
            await server.until(lambda: server.hall.ready)
            await server.until(lambda: server.hall.load.busy)
            with pytest.raises(TalkError) as refused:
                async with Talker(server.url):
                    pass
        assert refused.value.code == "busy"

    run(case, replace(SETTINGS, late_s=0.0))


def test_ice_that_never_completes_is_ended() -> None:
    async def case(server: Server) -> None:
        status, body = await server.offer(await a_good_offer())
        assert status == 200
        await server.until(lambda: body["session"] not in server.hall.sessions)
        assert server.hall.counts["ended_no-connection"] == 1

    run(case, replace(SETTINGS, connect_s=0.5))


def test_somebody_who_floods_the_channel_is_asked_to_leave_and_the_other_one_stays() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as other:
            await server.until(lambda: server.hall.ready)
            async with Talker(server.url) as talker:
                for _ in range(1000):
                    talker.send({"type": "ping", "t": 1})
                async with asyncio.timeout(PATIENCE_S):
                    await talker.ended.wait()
                assert talker.events[-1][1]["code"] == "expelled"
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
            await server.until(lambda: server.hall.ready)
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
            assert next(iter(server.hall.sessions.values())).state is SessionState.TALKING

    run(case)


def test_who_comes_back_in_time_goes_on_with_the_same_conversation() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as talker:
            session = talker.session
            await talker.hang_up()
            await server.until(lambda: server.hall.sessions[session].state is SessionState.AWAY)
            await talker.connect()

            def hellos() -> list[dict[str, Any]]:
                return [event for _, event in talker.events if event["type"] == "hello"]

            await server.until(lambda: len(hellos()) == 2)
            hello = hellos()
            assert [event["resumed"] for event in hello] == [False, True]
            assert {event["session"] for event in hello} == {session}

    run(case)


def test_who_comes_back_too_late_is_told_so() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as talker:
            await talker.hang_up()
            await server.until(lambda: not server.hall.sessions)
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
        await server.until(lambda: not server.hall.sessions)
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
        from thalweg.transports.webrtc.client import Voice
        from thalweg.transports.webrtc.receive import OpusIn, Tap

        clock, heard = SystemClock(), []
        opus = OpusIn(lambda samples, at, lost: heard.append(float(np.abs(samples).max(initial=0.0))))
        voice = Voice(clock)
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


def test_the_operator_sees_what_goes_on_and_nobody_else() -> None:
    async def case(server: Server) -> None:
        admin = {"Authorization": "Bearer admin"}
        assert (await server.ask("GET", "/sessions"))[0] == 403
        async with Talker(server.url):
            _, body = await server.ask("GET", "/sessions", headers=admin)
            assert [session["state"] for session in body["sessions"]] == ["talking"]
            _, text = await server.ask("GET", "/metrics")
            assert 'thalweg_sessions{state="talking"} 1' in text

    run(case)


def test_draining_waits_for_those_who_talk_and_lets_nobody_in() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as talker:
            draining = asyncio.ensure_future(server.hall.drain())
            await asyncio.sleep(0.1)
            assert (await server.ask("GET", "/readyz"))[0] == 503
            assert (await server.offer(await a_good_offer()))[1]["error"] == "draining"
            talker.send({"type": "ping", "t": 1})
            await talker.next("pong")
        await draining

    run(case)


def test_a_conversation_that_lasts_too_long_is_ended_with_a_word() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as talker:
            async with asyncio.timeout(PATIENCE_S):
                await talker.ended.wait()
            assert talker.events[-1][1]["code"] == "too-long"

    run(case, replace(SETTINGS, session_s=0.5))


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
        await server.until(lambda: not server.hall.sessions)
        await asyncio.sleep(0.5)
        before = left()
        for i in range(16):
            await visit(goodbye=i % 2 == 0)
        await server.until(lambda: not server.hall.sessions)
        await server.until(lambda: all(b <= a + 2 for a, b in zip(before, left(), strict=True)))

    run(case, replace(SETTINGS, resume_s=0.3, per_address=100))


def test_servers_for_ice_are_read_with_their_credentials() -> None:
    assert parse_ice("stun:a.example:3478") == IceServer(url="stun:a.example:3478")
    turn = parse_ice("turn:me:s3cret@b.example?transport=tcp")
    assert turn == IceServer(url="turn:b.example?transport=tcp", username="me", credential="s3cret")
    for wrong in ("http://x", "turn:b.example", "stun:"):
        with pytest.raises(SettingsError):
            parse_ice(wrong)


def test_candidates_are_read_with_their_section() -> None:
    lines = ("a=ice-ufrag:x", "m=audio 9 X 0", "a=mid:1", "a=candidate:1 1 UDP 1 h 9 typ host", "a=end-of-candidates")
    fragment = "".join(f"{line}\r\n" for line in lines)
    assert candidates_of(fragment) == [Candidate("1 1 UDP 1 h 9 typ host", "1"), Candidate("", "1")]


def test_the_page_is_there_with_everything_it_names() -> None:
    async def case(server: Server) -> None:
        _, page = await server.ask("GET", "/")
        for name in ("app.js", "call.js", "turns.js", "timeline.js", "trouble.js", "style.css", "icon.svg"):
            assert (await server.ask("GET", f"/web/{name}"))[0] == 200
        assert "web/app.js" in page
        assert (await server.ask("GET", "/web/secrets.txt"))[0] == 404

    run(case)


def test_a_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "c.pem"
    wrong.write_text("nothing")
    with pytest.raises(ServeError, match="cannot use the certificate"):
        tls_context(replace(SETTINGS, certificate=wrong))


def test_with_a_certificate_everything_goes_over_tls(tmp_path: Path) -> None:
    made = make_certificates()
    certificate, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.write_bytes(made.certificate)
    key.write_bytes(made.key)

    async def case(server: Server) -> None:
        async with Talker(server.url) as talker:
            assert server.url.startswith("https://")
            talker.send({"type": "ping", "t": 1})
            await talker.next("pong")

    run(case, replace(SETTINGS, certificate=certificate, key=key))
