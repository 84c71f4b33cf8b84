"""Conversations on hosts: put where there is room, resumed elsewhere when a host is killed, with what was said."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from tests.deploy.server.hosts.housing import HOUSED, Housed, asked, host_of, housed
from tests.deploy.server.serving import a_good_offer
from thalweg.deploy.bench.dialogue.scripted import pipeline
from thalweg.deploy.door.refused import Refused
from thalweg.deploy.runtime.tasks import beside
from thalweg.deploy.server.hosts import moving
from thalweg.deploy.server.hosts.front import Front
from thalweg.transports.webrtc import call
from thalweg.transports.webrtc.client import Talker, TalkError


def test_newcomers_are_spread_and_seen_as_one() -> None:
    async def case(there: Housed) -> None:
        async with Talker(there.url) as one, Talker(there.url) as other:
            assert {host_of(one), host_of(other)} == {"host-1", "host-2"}
            assert await asked(one, "red") == "red"
            _, body = await there.ask("GET", "/sessions")
            assert {(each["id"], each["host"]) for each in body["sessions"]} == {
                (one.session, host_of(one)),
                (other.session, host_of(other)),
            }
            _, text = await there.ask("GET", "/metrics")
            assert 'thalweg_sessions{host="host-1",state="talking"} 1.0' in text
            assert 'thalweg_sessions{host="host-2",state="talking"} 1.0' in text
            assert text.count("# TYPE thalweg_sessions gauge") == 1

    housed(case)


def test_a_conversation_whose_host_is_killed_goes_on_elsewhere_with_what_was_said() -> None:
    async def case(there: Housed) -> None:
        async with Talker(there.url) as talker:
            assert await asked(talker, "red") == "red"
            before, key, home = talker.session, talker.key, host_of(talker)
            await there.until(lambda: there.remembers(talker, 1))
            there.kill(home)
            killed_s = time.monotonic()
            await there.until(lambda: there.front.kept.find(before).lost_s is not None)
            status, body = await there.ask("GET", f"/sessions/{before}?key={key}")
            assert (status, body) == (200, {"stands": False})
            await talker.hang_up()
            await talker.connect()
            assert time.monotonic() - killed_s < 5.0
            assert host_of(talker) != home
            assert talker.key == key
            assert await asked(talker, "green") == "red and green"
            hellos = [event for _, event in talker.events if event["type"] == "hello"]
            assert [event["resumed"] for event in hellos] == [False, True]
            turns = [event["turn"] for _, event in talker.events if event["type"] == "heard"]
            assert turns == sorted(set(turns)), "no turn has the number of another"
        await there.until(lambda: there.ready(2))

    housed(case, apart=True)


def heard_by(talker: Talker) -> list[str]:
    return [event["text"] for _, event in talker.events if event["type"] == "heard"]


@pytest.mark.parametrize("killed_after_s", [0.0, 0.05, 0.15])
def test_a_question_written_around_the_death_of_its_host_is_answered_once_elsewhere(killed_after_s: float) -> None:
    async def case(there: Housed) -> None:
        async with Talker(there.url, microphone=False) as talker, beside(talker.stay()):
            assert await asked(talker, "red") == "red"
            await there.until(lambda: there.remembers(talker, 1))
            home, was = host_of(talker), talker.session
            if not killed_after_s:  # it does not even read the question
                os.kill(there.pid(home), signal.SIGSTOP)
            talker.ask("green")
            await asyncio.sleep(killed_after_s)
            there.kill(home)
            await there.until(lambda: len(heard_by(talker)) > 1 and talker.session != was and talker.there)
            assert await asked(talker, "end") == "red and green and end"
            assert len(heard_by(talker)) == 3

    housed(case, apart=True)


def ask_over(channel: Any, talker: Talker, text: str) -> None:
    """Ask over the connection that there was, while another is made."""
    talker._questions.ask(text)
    for control in talker._questions.to_send():
        channel.send(json.dumps({"v": 1, **control}))


def test_a_question_that_reaches_a_host_after_its_snapshot_was_taken_is_answered_once_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Front._place

    async def case(there: Housed) -> None:
        async with Talker(there.url, microphone=False) as talker:
            assert await asked(talker, "red") == "red"
            before, home = talker._channel, host_of(talker)

            async def late(front: Front, *given: Any, **more: Any) -> Any:
                ask_over(before, talker, "green")
                await asyncio.sleep(0.2)
                return await place(front, *given, **more)

            monkeypatch.setattr(Front, "_place", late)
            assert (await there.ask("POST", f"/hosts/{home}/drain"))[0] == 200
            await there.until(lambda: any(event["type"] == "reconnect" for _, event in talker.events))
            await talker.connect_anew()
            monkeypatch.setattr(Front, "_place", place)
            assert host_of(talker) != home
            await there.until(lambda: len(heard_by(talker)) > 1)
            assert await asked(talker, "end") == "red and green and end"
            assert len(heard_by(talker)) == 3

    housed(case)


def test_a_question_that_comes_during_a_move_that_fails_is_answered_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(call, "HELD_NS", 10**15)
    monkeypatch.setattr(moving, "PATIENCE_S", 1000.0)

    async def case(there: Housed) -> None:
        async with Talker(there.url, microphone=False) as talker:
            assert await asked(talker, "red") == "red"
            before = talker._channel

            async def fails(*_: Any, **more: Any) -> Any:
                ask_over(before, talker, "green")
                await asyncio.sleep(0.3)
                assert len(heard_by(talker)) == 1, "it is held back while the conversation may go elsewhere"
                raise Refused(429, "too-often", "You come back too often.")

            monkeypatch.setattr(Front, "_place", fails)
            assert (await there.ask("POST", f"/hosts/{host_of(talker)}/drain"))[0] == 200
            await there.until(lambda: any(event["type"] == "reconnect" for _, event in talker.events))
            with pytest.raises(TalkError):
                await talker.connect_anew()
            await there.until(lambda: len(heard_by(talker)) == 2)

    housed(case)


def test_an_answer_that_was_cut_off_is_said_from_where_it_was_heard() -> None:
    async def case(there: Housed) -> None:
        async with Talker(there.url) as talker:
            words = " ".join(f"w{number}" for number in range(12))
            talker.send({"type": "say", "text": words})
            before = talker.session

            def heard() -> str:
                kept = there.front.kept.find(before)
                told = (kept.snapshot or {}).get("heard") if kept is not None else None
                return str(told["text"]) if told else ""

            await there.until(lambda: len(heard().split()) >= 4)
            there.lose(host_of(talker))
            known = heard()
            await talker.hang_up()
            await talker.connect()
            rest = await talker.next("heard")
            assert rest["complete"]
            assert f"{known} {rest['text']}" == words
            assert await asked(talker, "end") == f"{words} and end"

    housed(case, text=pipeline(length="300ms"))


def test_a_question_that_comes_before_the_one_of_before_is_put_again_leaves_that_one_remembered() -> None:
    async def case(there: Housed) -> None:
        async with Talker(there.url) as talker:
            talker.ask("one two three four")
            before = talker.session
            await talker.next("answer")

            def told() -> bool:
                kept = there.front.kept.find(before)
                return bool(kept and kept.snapshot and (kept.snapshot.get("heard") or {}).get("text"))

            await there.until(told)
            there.lose(host_of(talker))
            await talker.hang_up()
            talker.ask("green")
            await talker.connect()
            await there.until(lambda: "one two three four and green" in heard_by(talker))
            assert await asked(talker, "end") == "one two three four and green and end"

    housed(case, text=pipeline(length="300ms"))


def test_who_has_not_the_key_gets_nothing_of_a_conversation_that_was_lost() -> None:
    async def case(there: Housed) -> None:
        async with Talker(there.url) as talker:
            await asked(talker, "red")
            before, home = talker.session, host_of(talker)
            there.lose(home)
            offer = await a_good_offer()
            for key in ("", "guess", talker.key[:-1], there.front.kept.find(before).key):
                status, body = await there.ask("POST", "/offer", json={"sdp": offer, "session": before, "key": key})
                assert (status, body["error"]) == (404, "gone")
                assert (await there.ask("GET", f"/sessions/{before}?key={key}"))[0] == 404
            for forged in ("host-9-abcdefghijkl", f"host-2{before[6:]}", "x", "../news", f"{before}{'a' * 300}"):
                body = {"sdp": offer, "session": forged, "key": talker.key}
                assert (await there.ask("POST", "/offer", json=body))[0] == 404
            talker.session = ""

    housed(case)


def test_a_key_that_is_used_again_leads_to_the_one_conversation_there_is() -> None:
    async def case(there: Housed) -> None:
        async with Talker(there.url) as talker:
            await asked(talker, "red")
            before, key = talker.session, talker.key
            await there.until(lambda: there.remembers(talker, 1))
            there.lose(host_of(talker))
            offer = await a_good_offer()
            answers = await asyncio.gather(
                *(there.ask("POST", "/offer", json={"sdp": offer, "session": before, "key": key}) for _ in range(3))
            )
            assert [status for status, _ in answers] == [200, 200, 200]
            assert len({body["session"] for _, body in answers}) == 1
            talker.session, talker.key = answers[0][1]["session"], key
        await there.until(lambda: not there.front.kept.by_address())
        body = {"sdp": offer, "session": before, "key": key}
        assert (await there.ask("POST", "/offer", json=body))[0] == 404, "what has ended stays ended"

    housed(case)


def test_only_when_every_host_is_full_is_somebody_told_busy() -> None:
    async def case(there: Housed) -> None:
        async with Talker(there.url), Talker(there.url), Talker(there.url), Talker(there.url):
            with pytest.raises(TalkError) as refused:
                async with Talker(there.url):
                    pass
            assert refused.value.code == "busy"
            held = [link.told.held for link in there.front.links.values()]
            await there.until(lambda: [link.told.held for link in there.front.links.values()] == [2, 2])
            assert sum(held) <= 4

    housed(case, settings=replace(HOUSED, sessions=2))


def test_an_address_has_so_many_conversations_on_all_hosts_together() -> None:
    async def case(there: Housed) -> None:
        async with Talker(there.url), Talker(there.url):
            await there.until(lambda: there.front.kept.by_address().total() == 2)
            with pytest.raises(TalkError) as refused:
                async with Talker(there.url):
                    pass
            assert refused.value.code == "too-many"

    housed(case, settings=replace(HOUSED, per_address=2))


def test_a_host_tells_nothing_to_who_has_not_its_token() -> None:
    async def case(there: Housed) -> None:
        (link,) = there.front.links.values()
        path = link.record.url.removeprefix("unix:")
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as http:
            for header in (
                {},
                {"Authorization": "Bearer guess"},
                {"Authorization": f"Bearer {link.record.token[:-1]}"},
            ):
                for route in ("/news", "/connect", "/stop", "/nothing"):
                    async with http.post(f"http://localhost{route}", json={}, headers=header) as response:
                        body = await response.text()
                        assert response.status == 401
                        assert link.record.token not in body
            async with http.post("http://localhost/connect", data=b" " * 2000) as response:
                assert response.status == 413, "of strangers nothing long is read"
            right = {"Authorization": f"Bearer {link.record.token}", "X-Thalweg-Protocol": "0"}
            async with http.post("http://localhost/news", json={}, headers=right) as response:
                assert response.status == 426

    housed(case, count=1)
