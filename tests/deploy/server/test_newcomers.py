"""Whoever is let in and never comes costs a place for a moment, and no pipeline."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from tests.deploy.server.serving import PARROT, SETTINGS, Server, a_good_offer, run
from thalweg.deploy.door.refused import Refused
from thalweg.deploy.server import admission
from thalweg.deploy.server.admission import EXPELLED_S, FORGOTTEN_S, HONEST_S, LONGEST_S, Admission, Connecting
from thalweg.deploy.server.session import Session, SessionOver, SessionState
from thalweg.pipeline.file.spec import load_spec
from thalweg.transports.webrtc.client import Talker


def check(
    door: Admission, address: str, mine: int = 0, full: bool = False, connecting: int = 0, now_s: float = 0
) -> str:
    """The code of the refusal; empty where there is none."""
    try:
        door.check(address, mine=0, is_full=full, connecting=connecting, now_s=now_s)
    except Refused as refused:
        return refused.code
    return ""


def test_newcomers_who_wait_for_a_pipeline_count_for_their_address() -> None:
    door = Admission(per_address=2, connecting=8)
    with door.counted("a"), door.counted("a"):
        assert check(door, "a") == "too-many"
        assert check(door, "b") == ""
    assert check(door, "a") == ""
    assert door.pending == {}


def test_newcomers_who_wait_count_among_those_who_are_connecting() -> None:
    door = Admission(per_address=9, connecting=3)
    with door.counted("a"):
        assert check(door, "b", connecting=1) == ""
        assert check(door, "b", connecting=2) == "busy"


def test_who_was_told_to_leave_stays_out_for_a_while() -> None:
    door = Admission(per_address=2, connecting=8)
    door.expelled("a", now_s=10.0)
    assert check(door, "a", now_s=10.0) == "expelled"
    assert check(door, "b", now_s=10.0) == ""
    assert check(door, "a", now_s=10.0 + EXPELLED_S) == ""


def test_a_full_house_is_said_to_be_full_and_not_in_a_hurry() -> None:
    assert check(Admission(per_address=2, connecting=1), "a", full=True, connecting=1) == "busy"


def test_whose_connections_come_to_nothing_waits_longer_each_time_and_begins_anew_with_one_that_comes_about() -> None:
    door = Admission(per_address=2, connecting=8)
    door.came_to_nothing("a", now_s=0.0)
    assert check(door, "a", now_s=0.0) == ""
    door.came_to_nothing("a", now_s=10.0)
    assert [check(door, "a", now_s=now_s) for now_s in (13.9, 14.0)] == ["came-to-nothing", ""]
    door.came_to_nothing("a", now_s=20.0)
    assert [check(door, "a", now_s=now_s) for now_s in (27.9, 28.0)] == ["came-to-nothing", ""]
    assert check(door, "b", now_s=20.0) == ""
    door.came_about("a")
    assert check(door, "a", now_s=20.0) == ""


def test_the_longest_wait_is_bounded_and_old_failures_are_forgotten() -> None:
    door = Admission(per_address=2, connecting=8)
    for _ in range(2000):
        door.came_to_nothing("a", now_s=0.0)
    assert [check(door, "a", now_s=now_s) for now_s in (LONGEST_S - 1, LONGEST_S)] == ["came-to-nothing", ""]
    door.came_to_nothing("a", now_s=FORGOTTEN_S)
    assert check(door, "a", now_s=FORGOTTEN_S) == ""


def test_who_has_failed_gives_way_to_who_has_not_and_never_the_other_way_round() -> None:
    door = Admission(per_address=2, connecting=8)
    for failing, times in (("once", 1), ("twice", 2)):
        for _ in range(times):
            door.came_to_nothing(failing, now_s=0.0)
    connecting = {name: Connecting(name, 1.0) for name in ("once", "twice", "honest")}
    assert door.to_go("new", connecting, now_s=1.0) == "twice"
    assert door.to_go("once", connecting, now_s=1.0) == "twice"
    assert door.to_go("twice", connecting, now_s=1.0) is None
    slow = {"honest": Connecting("honest", HONEST_S + 1), "slower": Connecting("slower", HONEST_S + 2)}
    assert door.to_go("twice", slow, now_s=1.0) == "slower"


def test_an_honest_newcomer_gets_in_where_others_hold_every_place_again_and_again() -> None:
    async def case(server: Server) -> None:
        for address in ("10.0.0.1", "10.0.0.2"):
            server.conversations.admission.came_to_nothing(address, time.monotonic())
            await server.conversations.enter(address)
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


def test_a_pipeline_whose_newcomer_never_came_serves_the_next_one_under_another_name_and_key() -> None:
    async def case(server: Server) -> None:
        (pipeline,) = server.conversations.pipelines._waiting
        _, told = await server.offer(await a_good_offer())
        await server.until(lambda: pipeline in server.conversations.pipelines._waiting)
        assert server.conversations.counts["ended_no-connection"] == 1
        assert (await server.ask("DELETE", f"/sessions/{told['session']}?key={told['key']}"))[0] == 404
        taken = [await server.conversations.enter(f"10.0.0.{i}") for i in range(2)]
        assert pipeline in taken
        assert {session.id for session in taken}.isdisjoint({told["session"]})
        assert {session.key for session in taken}.isdisjoint({told["key"]})

    run(case, replace(SETTINGS, connect_s=1.0))


def test_where_many_are_connecting_whoever_takes_long_loses_their_place_to_a_newcomer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("thalweg.deploy.server.admission.HONEST_S", 0.5)

    async def case(server: Server) -> None:
        offer = await a_good_offer()
        slow = [(await server.offer(offer))[1]["session"] for _ in range(2)]
        await server.until(lambda: min(s.unchanged_s for s in server.conversations.sessions.values()) > 0.5)
        async with Talker(server.url):
            assert slow[0] not in server.conversations.sessions
            assert slow[1] in server.conversations.sessions

    run(case, replace(SETTINGS, connecting=2, connect_s=30.0))


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
        async def told(*, moved: bool) -> str:
            try:
                await server.conversations.enter("10.0.0.1", moved=moved)
            except Refused as refused:
                return refused.code
            return ""

        assert [await told(moved=moved) for moved in (False, False, True, True)] == ["", "too-many", "", "busy"]

    run(case, replace(SETTINGS, sessions=2, per_address=1, connecting=1, connect_s=30.0))
