"""Fronts come and go, and there may be several; hosts are emptied, and replaced by those of another pipeline file."""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.server.hosts.housing import (
    HOUSED,
    Housed,
    asked,
    front_at,
    front_inside,
    host_of,
    hosts_inside,
    housed,
    reaped,
)
from thalweg.deploy.bench.dialogue.scripted import pipeline
from thalweg.deploy.commands.hosts import COLUMNS, DrainError, HostsError, drain_host, list_hosts
from thalweg.deploy.door.refused import Refused
from thalweg.deploy.runtime.tasks import beside
from thalweg.deploy.server.hosts.link import HostLink
from thalweg.deploy.server.hosts.record import records_in
from thalweg.transports.webrtc.client import Talker, TalkError


async def moves_when_asked(talker: Talker) -> None:
    await talker.next("reconnect")
    await talker.connect_anew()


def test_an_emptied_host_lets_nobody_in_and_its_conversation_moves_between_two_turns() -> None:
    async def case(there: Housed) -> None:
        async with Talker(there.url) as talker:
            talker.send({"type": "say", "text": "red green blue"})
            await talker.next("answer")
            before = talker.session
            home = host_of(talker)
            async with asyncio.TaskGroup() as group:
                moved = group.create_task(moves_when_asked(talker))
                heard = group.create_task(talker.next("heard"))
                status, body = await there.ask("POST", f"/hosts/{home}/drain")
                assert (status, body["held"]) == (200, 1)
            assert heard.result()["complete"], "no turn is cut short"
            assert moved.done() and host_of(talker) != home
            assert await asked(talker, "end") == "red green blue and end"
            assert not talker.ended.is_set(), "nobody says goodbye to who goes on elsewhere"
            async with Talker(there.url) as other:
                assert host_of(other) != home
            status, body = await there.ask("GET", f"/sessions/{before}?key={talker.key}")
            assert (status, body) == (200, {"stands": False})

    housed(case)


def test_who_stays_goes_on_when_a_host_is_emptied_and_when_one_is_killed() -> None:
    async def case(there: Housed) -> None:
        async with Talker(there.url) as talker, beside(talker.stay()):
            assert await asked(talker, "red") == "red"
            first = host_of(talker)
            assert (await there.ask("POST", f"/hosts/{first}/drain"))[0] == 200
            await there.until(lambda: host_of(talker) != first and talker.there)
            assert await asked(talker, "green") == "red and green"
            second = host_of(talker)
            await there.until(lambda: there.remembers(talker, 2) and there.ready(2))
            there.kill(second)
            await there.until(lambda: host_of(talker) != second and talker.there and not talker.lost)
            assert await asked(talker, "blue") == "red and green and blue"
            assert not talker.ended.is_set()

    housed(case, apart=True)


def test_who_moves_is_answered_before_the_old_host_has_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = asyncio.Event()
    ask = HostLink.ask

    async def slow(self: HostLink, path: str, body: dict[str, Any], **more: Any) -> dict[str, Any]:
        if body.get("moved"):
            await let_go.wait()
        return await ask(self, path, body, **more)

    async def case(there: Housed) -> None:
        async with Talker(there.url) as talker:
            assert await asked(talker, "red") == "red"
            home = host_of(talker)
            monkeypatch.setattr(HostLink, "ask", slow)
            async with asyncio.TaskGroup() as group:
                moved = group.create_task(moves_when_asked(talker))
                assert (await there.ask("POST", f"/hosts/{home}/drain"))[0] == 200
            assert moved.done() and host_of(talker) != home
            assert await asked(talker, "green") == "red and green"
            assert there.front.links[home].told.held == 1
            let_go.set()
            await there.until(lambda: not there.front.links[home].told.held)

    housed(case)


def test_who_is_told_to_reconnect_and_cannot_talks_on_where_they_are() -> None:
    async def case(there: Housed) -> None:
        async with Talker(there.url) as talker:
            assert await asked(talker, "red") == "red"
            url, talker._server.url = talker._server.url, "http://127.0.0.1:9"
            with pytest.raises(TalkError):
                await talker.connect_anew()
            talker._server.url = url
            assert talker.there
            assert await asked(talker, "green") == "red and green"

    housed(case, count=1)


def test_who_stays_gives_up_once_the_server_knows_the_conversation_no_more() -> None:
    async def case(there: Housed) -> None:
        async with Talker(there.url) as talker:
            there.lose(host_of(talker))
            there.front.kept.forget(talker.session)
            talker.lost = True
            async with asyncio.timeout(20.0):
                await talker.stay()
            assert talker.ended.is_set()
            talker.session = ""

    housed(case, count=1)


def test_there_is_no_host_to_empty_where_no_operator_asks() -> None:
    async def case(there: Housed) -> None:
        assert (await there.ask("POST", "/hosts/host-7/drain"))[0] == 404
        for headers in ({}, {"Authorization": "Bearer guess"}):
            async with there.http.post(f"{there.url}/hosts/host-1/drain", headers=headers) as response:
                assert response.status == 403
            async with there.http.get(f"{there.url}/hosts", headers=headers) as response:
                assert response.status == 403

    housed(case, count=1)


def test_the_command_empties_a_host_and_says_when_nobody_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    async def case(there: Housed) -> None:
        async with Talker(there.url) as talker, asyncio.TaskGroup() as group:
            home = host_of(talker)
            await there.until(lambda: there.front.kept.find(talker.session) is not None)
            group.create_task(moves_when_asked(talker))
            assert await asyncio.to_thread(drain_host, home, there.url, "admin", wait=True) == 0
            await there.until(lambda: host_of(talker) != home)
        with pytest.raises(DrainError, match="There is no conversation host of that name"):
            await asyncio.to_thread(drain_host, "host-9", there.url, "admin", wait=True)
        with pytest.raises(DrainError, match="admin token: give it by --admin-token-file"):
            await asyncio.to_thread(drain_host, "host-9", there.url, "", wait=True)

    housed(case)
    assert "is empty" in capsys.readouterr().err


def test_the_command_lists_all_hosts_of_a_front_with_what_they_hold(capsys: pytest.CaptureFixture[str]) -> None:
    async def case(there: Housed) -> None:
        async with Talker(there.url) as talker:
            await there.until(lambda: there.front.kept.states(host_of(talker))["talking"] == 1)
            for as_json in (False, True):
                await asyncio.to_thread(list_hosts, there.url, "admin", as_json)
        with pytest.raises(HostsError, match="token"):
            await asyncio.to_thread(list_hosts, there.url, "guess", False)

    housed(case, settings=replace(HOUSED, sessions=3))
    text, _, plain = capsys.readouterr().out.partition("[")
    head, one, other, total = text.strip().splitlines()
    assert head.split() == list(COLUMNS)
    assert [row.split()[:2] for row in (one, other)] == [["host-1", "up"], ["host-2", "up"]]
    assert (one + other).count("1 talking") == 1
    assert total == "2 hosts, 1 conversations of 6"
    assert [host["name"] for host in json.loads("[" + plain)] == ["host-1", "host-2"]


def test_of_two_fronts_both_lead_to_a_conversation_wherever_it_went() -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            async with hosts_inside(folder, 2, HOUSED, pipeline()):
                while len(list(records_in(folder))) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                async with (
                    front_inside(folder, HOUSED, pipeline()) as one,
                    front_inside(folder, HOUSED, pipeline()) as other,
                ):
                    await one.until(lambda: one.ready(2) and other.ready(2))
                    async with Talker(other.url) as talker:
                        await asked(talker, "red")
                        before, key = talker.session, talker.key
                        await other.until(lambda: one.remembers(talker, 1) and other.remembers(talker, 1))
                        one.lose(host_of(talker))
                        other.lose(host_of(talker))
                        await talker.hang_up()
                        await talker.connect()
                        assert talker.session != before
                        await one.until(lambda: one.front.kept.now_at(before) == talker.session)
                        assert await one.front.stands(talker.session, key)
                        assert not await one.front.stands(before, key)
                        assert await asked(talker, "green") == "red and green"
                        there = Talker(one.url)
                        there.session, there.key = before, key
                        await there.connect()
                        assert there.session == talker.session
                        assert await asked(there, "blue") == "red and green and blue"
                        await there.hang_up()

    asyncio.run(main())


async def left_talking(folder: Path) -> Talker:
    """Somebody whose front has gone, and left its host running."""
    async with front_at(folder, 1, HOUSED, pipeline(), ends=False) as front:
        await front.until(lambda: front.ready(1))
        talker = Talker(front.url)
        await talker.connect()
        await asked(talker, "red")
    return talker


def test_conversations_talk_on_while_there_is_no_front_and_the_next_one_finds_them() -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            talker = await left_talking(folder)
            assert await asked(talker, "green") == "red and green"
            async with front_at(folder, 1, HOUSED, pipeline()) as second:
                await second.until(lambda: second.front.kept.find(talker.session) is not None)
                assert len(second.front.links) == 1
                assert await second.front.stands(talker.session, talker.key)
                await talker.hang_up()
                talker._server.url = second.url
                await talker.connect()
                assert await asked(talker, "blue") == "red and green and blue"
                await talker.end()
            await reaped()

    asyncio.run(main())


def test_a_front_with_another_pipeline_file_takes_over_and_nobody_is_dropped() -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            talker = await left_talking(folder)
            async with front_at(folder, 1, HOUSED, pipeline(length="50ms")) as second:
                talker._server.url = second.url
                home = host_of(talker)
                await moves_when_asked(talker)
                assert host_of(talker) != home
                assert await asked(talker, "green") == "red and green"
                await second.until(lambda: home not in second.front.links)
                await talker.end()
            await reaped()

    asyncio.run(main())


def test_a_front_of_another_file_empties_no_host_whose_own_fronts_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.deploy.server.hosts.private_server.OWN_S", 2.0)
    instead = {"ends": True, "instead": True}

    async def main() -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            async with hosts_inside(folder, 1, HOUSED, pipeline()):
                while not list(records_in(folder)):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                async with front_inside(folder, HOUSED, pipeline(length="50ms")) as new:
                    (link,) = new.front.links.values()
                    async with front_inside(folder, HOUSED, pipeline()) as old:
                        await old.until(lambda: old.ready(1) and link.state.value == "refused")
                        await asyncio.sleep(2.5)
                        with pytest.raises(Refused, match="are there"):
                            await link.ask("/drain", instead)
                    await asyncio.sleep(2.5)
                    assert (await link.ask("/drain", instead))["held"] == 0

    asyncio.run(main())


def test_two_fronts_that_let_somebody_into_the_last_place_are_told_yes_and_no() -> None:
    async def main() -> None:
        settings = replace(HOUSED, sessions=1)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            async with hosts_inside(folder, 1, settings, pipeline()):
                while not list(records_in(folder)):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                async with (
                    front_inside(folder, settings, pipeline()) as one,
                    front_inside(folder, settings, pipeline()) as other,
                ):
                    await one.until(lambda: one.ready(1) and other.ready(1))
                    talkers = [Talker(one.url), Talker(other.url)]
                    told = await asyncio.gather(*(talker.connect() for talker in talkers), return_exceptions=True)
                    refused = [error for error in told if error is not None]
                    assert len(refused) == 1
                    assert isinstance(refused[0], TalkError) and refused[0].code == "busy"
                    for talker in talkers:
                        await talker.end()

    asyncio.run(main())


def test_a_host_that_cannot_have_the_pipeline_is_not_ready_and_newcomers_go_elsewhere(tmp_path: Path) -> None:
    marker = tmp_path / "broken"
    text = pipeline().replace(
        '{use: "thalweg.deploy.bench.dialogue.scripted:Ear"}',
        f'{{use: "tests.deploy.server.hosts.scarce:ScarceEar", missing: "{marker}"}}',
    )

    async def case(there: Housed) -> None:
        marker.write_text(str(there.pid("host-1")), encoding="utf-8")
        async with Talker(there.url), Talker(there.url):
            pass
        await there.until(lambda: there.front.links["host-1"].told.not_ready)
        for _ in range(3):
            async with Talker(there.url) as talker:
                assert host_of(talker) == "host-2"

    housed(case, text=text, apart=True)


@pytest.mark.parametrize("protocol", [0, 99])
def test_a_host_of_another_version_gets_nobody(monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    async def case(there: Housed) -> None:
        monkeypatch.setattr("thalweg.deploy.server.hosts.link.PROTOCOL", protocol)
        (link,) = there.front.links.values()
        there.front.remove(link.name)
        there.front.add(link.record)
        await there.until(lambda: there.front.links[link.name].why)
        assert there.front.links[link.name].state.value == "refused"
        with pytest.raises(TalkError) as refused:
            async with Talker(there.url):
                pass
        assert refused.value.code == "busy"
        monkeypatch.undo()
        there.front.remove(link.name)

    housed(case, count=1)
