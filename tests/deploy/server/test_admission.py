"""Who is let in: tokens, origins, addresses, room."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.deploy.server.serving import PATIENCE_S, SETTINGS, Server, a_good_offer, run
from thalweg.deploy.door.certificate import CertificateError
from thalweg.deploy.server.admission import Returns
from thalweg.deploy.server.capacity import TO_COMPARE
from thalweg.deploy.server.conversations import Refused
from thalweg.deploy.server.serve import ServeError, certificate_of
from thalweg.deploy.server.session import Session
from thalweg.pipeline.observing.turn import Turn
from thalweg.transports.grpc.tls import make_certificates
from thalweg.transports.webrtc.client import Talker, TalkError


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
            await server.until(lambda: server.conversations.ready)
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
        await server.until(lambda: not server.conversations.sessions)
        async with Talker(server.url):
            pass

    run(case, replace(SETTINGS, sessions=1))


def test_of_two_who_wait_for_a_pipeline_one_gets_the_last_place() -> None:
    async def case(server: Server) -> None:
        await server.conversations.enter("10.0.0.1")
        assert not server.conversations.ready
        found = await asyncio.gather(
            *(server.conversations.enter("10.0.0.1") for _ in range(2)), return_exceptions=True
        )
        first, second = found
        assert isinstance(first, Session)
        assert isinstance(second, Refused)
        assert second.code == "busy"

    run(case, replace(SETTINGS, sessions=2))


def test_who_has_left_takes_nobodys_place_while_their_pipeline_closes() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url):
            await server.until(lambda: server.conversations.ready)
            (leaving,) = server.conversations.sessions.values()
            leaving.end("left", "over")
            server.conversations.dismiss(server.conversations.welcome(leaving.address))
            assert leaving.id in server.conversations.sessions

    run(case, replace(SETTINGS, sessions=1, per_address=1, late_s=-1.0))


def test_a_number_of_conversations_that_was_set_is_let_in_however_busy_the_machine() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url), Talker(server.url):
            with pytest.raises(TalkError, match="talking already"):
                async with Talker(server.url):
                    pass

    run(case, replace(SETTINGS, sessions=2, late_s=-1.0))


def test_a_machine_that_does_not_keep_up_lets_nobody_else_in() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url):
            await server.until(lambda: server.conversations.ready)
            await server.until(lambda: server.conversations.load.busy)
            with pytest.raises(TalkError) as refused:
                async with Talker(server.url):
                    pass
        assert refused.value.code == "busy"

    run(case, replace(SETTINGS, late_s=0.0))


def test_a_crowd_that_made_answers_slow_is_not_let_in_again() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url), Talker(server.url):
            await server.until(lambda: server.conversations.ready)
            for n, first_audio_s in ((1, 0.5), (2, 0.5), (3, 1.0)):
                for _ in range(TO_COMPARE):
                    server.conversations.capacity.note(n, first_audio_s, time.monotonic())
            with pytest.raises(TalkError) as refused:
                async with Talker(server.url):
                    pass
            assert refused.value.code == "busy"
            assert (
                "thalweg_sessions_limit 2.0\n"
                in (await server.ask("GET", "/metrics", headers={"Authorization": "Bearer admin"}))[1]
            )

    run(case)


def test_how_soon_each_answer_was_heard_counts_for_those_who_were_talking(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = []

    async def case(server: Server) -> None:
        monkeypatch.setattr(server.conversations.capacity, "note", lambda n, after_s, now_s: noted.append((n, after_s)))
        async with Talker(server.url), Talker(server.url):
            await server.until(lambda: server.conversations.talking == 2)
            for session in server.conversations.sessions.values():
                session.worker.turns.turns[1] = Turn(1, 0, speech_end_ns=1_000_000_000)
                session.call.started[1] = 1_700_000_000
            await server.until(lambda: len(noted) == 2)

    run(case)
    assert noted == [(2, 0.7), (2, 0.7)]


def test_draining_waits_for_those_who_talk_and_lets_nobody_in() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as talker:
            draining = asyncio.ensure_future(server.conversations.drain())
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

    run(case, replace(SETTINGS, session_s=2.0))


def test_a_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "c.pem"
    wrong.write_text("nothing")
    with pytest.raises(ServeError, match=r"of no use without its certificate: give --certificate"):
        certificate_of(replace(SETTINGS, key=wrong))
    with pytest.raises(CertificateError, match="cannot use the certificate"):
        certificate_of(replace(SETTINGS, certificate=wrong))


def test_with_a_certificate_everything_goes_over_tls(tmp_path: Path) -> None:
    made = make_certificates()
    certificate, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.write_bytes(made.certificate)
    key.write_bytes(made.key)

    async def case(server: Server) -> None:
        with pytest.raises(TalkError) as refused:
            async with Talker(server.url):
                pass
        assert refused.value.code == "certificate"
        async with Talker(server.url, insecure=True) as talker:
            assert server.url.startswith("https://")
            talker.send({"type": "ping", "t": 1})
            await talker.next("pong")

    run(case, replace(SETTINGS, certificate=certificate, key=key))


def test_somebody_comes_back_as_often_as_a_bad_network_has_them_and_not_without_end() -> None:
    returns = Returns()
    for _ in range(6):
        returns.take(0.0)
    with pytest.raises(Refused, match="too often"):
        returns.take(0.5)
    returns.take(1.0)
    with pytest.raises(Refused):
        returns.take(1.9)
    returns.take(2.0)
