"""A newcomer who never connects costs a place for a moment, and no pipeline."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from tests.deploy.server.serving import PARROT, SETTINGS, Server, a_good_offer, run
from thalweg.deploy.door.refused import Refused
from thalweg.deploy.server import admission
from thalweg.deploy.server.newcomer import (
    KEPT_CONTROLS,
    TRANSITIONS,
    Newcomer,
    NewcomerState,
    SessionOver,
    most_newcomers,
)
from thalweg.deploy.server.session import Session, SessionState
from thalweg.pipeline.dialogue.events import Say, Stop, Watch
from thalweg.pipeline.file.spec import load_spec
from thalweg.transports.webrtc.client import Talker, TalkError


def test_an_honest_newcomer_gets_in_where_others_hold_every_place_again_and_again() -> None:
    async def case(server: Server) -> None:
        for address in ("10.0.0.1", "10.0.0.2"):
            server.conversations.admission.came_to_nothing(address, time.monotonic())
            server.conversations.welcome(address)
        async with Talker(server.url):
            assert {session.address for session in server.conversations.sessions.values()} >= {"127.0.0.1"}

    run(case, replace(SETTINGS, connecting=2, connect_s=30.0))


def test_worthless_offers_take_no_pipeline() -> None:
    async def case(server: Server) -> None:
        waiting = list(server.conversations.pipelines._waiting)
        for _ in range(20):
            assert (await server.offer("v=0\r\nm=audio"))[0] == 422
        assert server.conversations.pipelines._waiting == waiting

    run(case)


def test_an_offer_to_which_no_connection_comes_takes_no_pipeline() -> None:
    async def case(server: Server) -> None:
        (pipeline,) = server.conversations.pipelines._waiting
        _, told = await server.offer(await a_good_offer())
        assert server.conversations.pipelines._waiting == [pipeline] and not server.conversations.sessions
        await server.until(lambda: not server.conversations.newcomers)
        assert server.conversations.counts["ended_no-connection"] == 1
        assert (await server.ask("DELETE", f"/sessions/{told['session']}?key={told['key']}"))[0] == 404
        async with Talker(server.url) as talker:
            assert server.conversations.sessions == {talker.session: pipeline}

    run(case, replace(SETTINGS, connect_s=1.0))


def test_a_pipeline_whose_visitor_never_came_serves_the_next_one_under_another_name_and_key() -> None:
    async def case(server: Server) -> None:
        (pipeline,) = server.conversations.pipelines._waiting
        before = await server.conversations.enter("10.0.0.1")
        was = {before.id, before.key}
        await server.until(lambda: pipeline in server.conversations.pipelines._waiting)
        taken = [await server.conversations.enter(f"10.0.0.{i}") for i in range(2)]
        assert pipeline in taken and was.isdisjoint({each for one in taken for each in (one.id, one.key)})

    run(case, replace(SETTINGS, connect_s=1.0))


def test_where_many_are_connecting_whoever_takes_long_loses_their_place_to_a_newcomer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("thalweg.deploy.server.admission.HONEST_S", 0.5)

    async def case(server: Server) -> None:
        newcomers = server.conversations.newcomers
        slow = [server.conversations.welcome(f"10.0.{n}.1").id for n in range(2)]
        await server.until(lambda: min(one.since_s for one in newcomers.values()) > 0.5)
        async with Talker(server.url):
            assert list(newcomers) == slow[1:]

    run(case, replace(SETTINGS, connecting=2, connect_s=30.0))


def test_where_places_are_scarce_those_without_a_path_are_let_go_sooner_and_not_all_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("thalweg.deploy.server.conversations.PRESSED_S", 0.1)
    monkeypatch.setattr("thalweg.deploy.server.conversations.AT_ONCE", 3)

    async def case(server: Server) -> None:
        newcomers = server.conversations.newcomers
        came = [server.conversations.welcome(f"10.0.{n}.1") for n in range(14)]
        monkeypatch.setattr(Newcomer, "reached", property(lambda self: self is came[0]))
        await server.until(lambda: len(newcomers) == 11)
        await server.until(lambda: len(newcomers) == 8)
        await asyncio.sleep(1.5)
        assert len(newcomers) == 8 and came[0].id in newcomers, "half of the places are free"

    run(case, replace(SETTINGS, connecting=16, connect_s=30.0))


def test_who_is_told_that_many_are_connecting_is_told_when_to_come_back_and_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("thalweg.deploy.server.admission.HONEST_S", 2.0)

    async def case(server: Server) -> None:
        server.conversations.welcome("10.0.0.1")
        async with server.http.post(f"{server.url}/offer", json={"sdp": await a_good_offer()}) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            assert (await response.json())["error"] == "connecting"
        told: list[TalkError] = []
        talker = Talker(server.url)
        talker.on_crowd = told.append
        async with talker:
            assert told and "Many are connecting" in str(told[0])

    run(case, replace(SETTINGS, connecting=1, connect_s=30.0))


def test_trying_again_ends_within_a_bounded_time_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.transports.webrtc.client.CONNECT_S", 2.5)

    async def case(server: Server) -> None:
        with pytest.raises(TalkError) as refused:
            async with Talker(server.url):
                pass
        assert refused.value.code == "connecting"

    run(case, replace(SETTINGS, connecting=-1))


def test_who_gave_way_before_they_were_connected_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.transports.webrtc.client.LOOK_S", 0.2)

    async def case(server: Server) -> None:
        welcome, answered = server.conversations.welcome, list[Newcomer]()

        async def and_lose(newcomer: Newcomer, connect: Any, *offer: Any) -> Any:
            found = await connect(*offer)
            server.conversations.dismiss(newcomer)
            return found

        def and_dismiss(address: str) -> Newcomer:
            newcomer = welcome(address)
            answered.append(newcomer)
            if len(answered) == 1:
                monkeypatch.setattr(newcomer, "connect", partial(and_lose, newcomer, newcomer.connect))
            return newcomer

        monkeypatch.setattr(server.conversations, "welcome", and_dismiss)
        async with Talker(server.url) as talker:
            assert [one.id == talker.session for one in answered] == [False, True]

    run(case)


def test_of_two_who_connect_at_once_for_the_last_place_one_is_told_that_all_are_talking() -> None:
    async def case(server: Server) -> None:
        found = await asyncio.gather(*(_talks(server) for _ in range(2)))
        assert sorted(found) == ["", "busy"]
        await server.until(lambda: not server.conversations.arriving)

    run(case, replace(SETTINGS, sessions=1))


async def _talks(server: Server) -> str:
    try:
        async with Talker(server.url):
            await asyncio.sleep(2.0)
    except TalkError as error:
        return error.code
    return ""


def test_what_is_sent_before_there_is_a_pipeline_is_passed_on_to_it() -> None:
    async def case() -> None:
        newcomer = Newcomer("10.0.0.1")
        for control in (Watch(on=True), Stop()):
            newcomer.call.control(control)
        session = Session(load_spec(PARROT, "parrot.yaml"))
        passed: list[object] = []
        session.call.on_control = passed.append
        session.seat(newcomer)
        assert session.call.watched and passed == [Stop()]

    asyncio.run(case())


def test_of_what_is_sent_without_end_before_there_is_a_pipeline_a_bounded_number_is_kept() -> None:
    async def case() -> None:
        newcomer = Newcomer("10.0.0.1")
        for number in range(KEPT_CONTROLS + 5):
            newcomer.call.control(Say(text=str(number)))
        assert [control.text for control in newcomer.controls if isinstance(control, Say)] == [
            str(number) for number in range(5, KEPT_CONTROLS + 5)
        ]

    asyncio.run(case())


@pytest.mark.parametrize(("descriptors", "most"), [(1_048_576, 128), (1024, 64), (64, 8)])
def test_newcomers_take_a_quarter_of_the_descriptors_at_most(
    descriptors: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda which: (descriptors, descriptors))
    assert most_newcomers() == most


def test_a_conversation_that_cannot_begin_ends_and_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seat, broken = Session.seat, iter([False, True])

    def seated(session: Session, newcomer: Newcomer) -> None:
        seat(session, newcomer)
        if next(broken, False):
            raise RuntimeError("a stage that cannot take what they said while they waited")

    monkeypatch.setattr(Session, "seat", seated)

    async def case(server: Server) -> None:
        async with Talker(server.url), Talker(server.url) as other:
            await server.until(lambda: ("bye", "broke") in [(e["type"], e.get("code")) for _, e in other.events])
            await server.until(lambda: len(server.conversations.sessions) == 1)
            assert server.conversations.talking == 1

    run(case)


def test_a_state_is_followed_by_those_of_the_table_only() -> None:
    for state in NewcomerState:
        for other in NewcomerState:
            newcomer = Newcomer("10.0.0.1")
            newcomer.state = state
            assert newcomer.become(other) == (other in TRANSITIONS[state])
            assert newcomer.state is (other if other in TRANSITIONS[state] else state)


def test_an_answer_that_is_ready_when_its_place_was_lost_goes_to_nobody() -> None:
    async def case() -> None:
        session = Session(load_spec(PARROT, "parrot.yaml"))
        running = asyncio.create_task(session.run())
        await session.opened()
        connecting = asyncio.create_task(session.connect(await a_good_offer(), []))
        await asyncio.sleep(0)
        await session.renew()
        with pytest.raises(SessionOver):
            await connecting
        assert session.peer is None and session.state is SessionState.READY
        session.end("test", "over")
        await running

    asyncio.run(case())


def test_who_was_expelled_is_refused_at_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "EXPELLED_S", 600.0)

    async def case(server: Server) -> None:
        async with Talker(server.url):
            (session,) = server.conversations.sessions.values()
            session.end("expelled", "over")
            await server.until(lambda: not server.conversations.sessions)
            assert (await server.offer(await a_good_offer()))[1]["error"] == "expelled"

    run(case)


def test_whose_host_was_lost_is_kept_out_by_nothing_but_a_full_house() -> None:
    async def case(server: Server) -> None:
        async def told() -> str:
            try:
                await server.conversations.enter("10.0.0.1")
            except Refused as refused:
                return refused.code
            return ""

        server.conversations.welcome("10.0.0.1")
        assert [await told() for _ in range(3)] == ["", "", "busy"]

    run(case, replace(SETTINGS, sessions=2, per_address=1, connecting=1, connect_s=30.0))
