"""Clusters as they should not be: mixed versions, clocks apart, a full disk, a node out of reach, a front that died."""

from __future__ import annotations

import asyncio
import datetime
import resource
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import thalweg.deploy.server.hosts
from tests.deploy.server.hosts.housing import (
    HOUSED,
    Housed,
    asked,
    bundle_of,
    front_at,
    front_inside,
    host_of,
    hosts_inside,
    housed,
)
from tests.deploy.server.serving import a_good_offer
from thalweg.deploy.bench.dialogue.scripted import pipeline
from thalweg.deploy.server.hosts.front import Front
from thalweg.deploy.server.hosts.host import ConversationHost, HostOrder, settings_for_hosts
from thalweg.deploy.server.hosts.news import News
from thalweg.deploy.server.hosts.record import PROTOCOL, HostRecord, records_in
from thalweg.deploy.server.newcomer import Newcomer
from thalweg.deploy.server.snapshot import Snapshot
from thalweg.transports.webrtc import Offer
from thalweg.transports.webrtc.client import Talker, TalkError

RECORD = {"name": "host-1", "url": "unix:/x", "token": "t" * 40, "version": "1", "protocol": 1, "pipeline": "p"}
STATE = {"held": 0}


@asynccontextmanager
async def two_fronts(folder: Path, hosts: int) -> AsyncIterator[tuple[Housed, Housed]]:
    async with hosts_inside(folder, hosts, HOUSED, pipeline()):
        while len(list(records_in(folder))) < hosts:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        async with front_inside(folder, HOUSED, pipeline()) as one, front_inside(folder, HOUSED, pipeline()) as other:
            await one.until(lambda: one.ready(hosts) and other.ready(hosts))
            yield one, other


def test_what_a_newer_version_tells_besides_is_ignored() -> None:
    newer = {"of-a-newer-version": {"x": 1}}
    assert HostRecord.read(RECORD | newer) == HostRecord.read(RECORD)
    snapshot = {"epoch": 3, "stages": {}} | newer
    assert Snapshot.read(snapshot) == Snapshot(epoch=3)
    told = {"key": "k", "address": "10.0.0.1", "state": "talking", "snapshot": snapshot} | newer
    news = {"boot": "b", "number": 1, "state": STATE | newer, "changed": {"a": told}, "all": ["a"]} | newer
    assert Snapshot.read(News.model_validate(news).changed["a"].snapshot) == Snapshot(epoch=3)


def test_a_host_of_an_older_version_that_speaks_the_protocol_is_used_and_its_version_told() -> None:
    async def case(there: Housed) -> None:
        (link,) = there.front.links.values()
        there.front.remove(link.name)
        there.front.add(link.record.model_copy(update={"version": "0.0.1"}))
        await there.until(lambda: there.ready(1))
        async with Talker(there.url) as talker:
            assert await asked(talker, "red") == "red"
        _, body = await there.ask("GET", "/hosts")
        assert [(host["version"], host["state"]) for host in body["hosts"]] == [("0.0.1", "up")]

    housed(case, count=1)


@contextmanager
def clock_off(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[None]:
    """Certificates are made by a clock that differs by so much."""

    class Off(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return datetime.datetime.now(tz) + datetime.timedelta(seconds=seconds)

    with monkeypatch.context() as patched:
        module = type("datetime", (), {"datetime": Off, "timedelta": datetime.timedelta, "UTC": datetime.UTC})
        patched.setattr("thalweg.transports.grpc.tls.datetime", module)
        yield


@pytest.mark.parametrize("seconds", [-60.0, 60.0])
def test_a_host_whose_clock_is_a_minute_off_is_talked_with(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    text = pipeline()
    order = HostOrder(
        name="far-1", bundle=bundle_of(text).plain(), where="127.0.0.1", settings=settings_for_hosts(HOUSED)
    )

    async def main(folder: Path) -> None:
        with clock_off(monkeypatch, seconds):
            host = ConversationHost(order)
        record: asyncio.Future[HostRecord] = asyncio.get_running_loop().create_future()
        with clock_off(monkeypatch, seconds):
            async with asyncio.TaskGroup() as group:
                group.create_task(host.run(record.set_result))
                found = await record
                async with front_inside(folder, HOUSED, text) as there:
                    there.front.add(found)
                    await there.until(lambda: there.ready(1))
                    async with Talker(there.url) as talker:
                        assert await asked(talker, "red") == "red"
                host.stop()

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(Path(name)))


def test_nothing_between_fronts_and_hosts_reads_the_time_of_day() -> None:
    (folder,) = map(Path, thalweg.deploy.server.hosts.__path__)
    sources = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
    assert len(sources) > 10
    assert not [name for name, text in sources.items() if "time.time(" in text or "datetime" in text]


def test_a_host_whose_disk_is_full_is_none_and_the_operator_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    start = asyncio.create_subprocess_exec
    full = iter([True])

    async def on_a_full_disk(*arguments: Any, **options: Any) -> Any:
        if next(full, False):  # no file of it may have a byte
            options["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        return await start(*arguments, **options)

    monkeypatch.setattr("asyncio.create_subprocess_exec", on_a_full_disk)

    async def main(folder: Path) -> None:
        async with front_at(folder, 2, HOUSED, pipeline()) as there:
            await there.until(lambda: there.front.missing)
            _, body = await there.ask("GET", "/hosts")
            failed = [host for host in body["hosts"] if host["state"] == "failed"]
            assert [(host["name"], host["why"]) for host in failed] == [
                ("host-1", "it ended with code 1: the log says more")
            ]
            await there.until(lambda: there.ready(2))
            _, body = await there.ask("GET", "/hosts")
            assert {host["state"] for host in body["hosts"]} == {"up"}

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(Path(name)))


def test_who_cannot_reach_a_host_that_the_front_can_is_put_on_another(monkeypatch: pytest.MonkeyPatch) -> None:
    connect, attempts = Newcomer.connect, 4

    async def unreachable(newcomer: Newcomer, offer: Offer, ice: Any, **more: Any) -> Any:
        """Of host-1 no address is right, and it knows none of the visitor's."""
        if not newcomer.id.startswith("host-1-"):
            return await connect(newcomer, offer, ice, **more)
        lost = replace(offer, sdp=offer.sdp.replace("127.0.0.1", "192.0.2.1"))
        peer, answer = await connect(newcomer, lost, ice, **more)
        return peer, answer.replace("127.0.0.1", "192.0.2.1")

    monkeypatch.setattr(Newcomer, "connect", unreachable)
    monkeypatch.setattr("thalweg.transports.webrtc.client.ATTEMPT_S", 4.0)
    monkeypatch.setattr("thalweg.transports.webrtc.client.CONNECT_S", 4.0)

    async def case(there: Housed) -> None:
        there.front.links["host-2"].asked = 1  # so that host-1 comes first
        for attempt in range(attempts):
            talker = Talker(there.url)
            try:
                async with talker:
                    assert host_of(talker) == "host-2" and attempt == 2, "not reached twice, and then not tried again"
                    assert await asked(talker, "red") == "red"
                    return
            except TalkError:
                await there.until(lambda: not there.front.kept.states("host-1"))
        raise AssertionError("never put elsewhere")

    housed(case, settings=replace(HOUSED, connect_s=3.0))


def test_when_one_front_of_two_dies_its_conversations_are_the_others() -> None:
    async def main(folder: Path) -> None:
        async with hosts_inside(folder, 2, HOUSED, pipeline()):
            while len(list(records_in(folder))) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            async with front_inside(folder, HOUSED, pipeline()) as other:
                talker = Talker("http://127.0.0.1:1")
                async with front_inside(folder, HOUSED, pipeline()) as one:
                    await other.until(lambda: one.ready(2) and other.ready(2))
                    talker._server.url = one.url
                    await talker.connect()
                    assert await asked(talker, "red") == "red"
                assert await asked(talker, "green") == "red and green", "there is no front between them"
                await other.until(lambda: other.remembers(talker, 2))
                other.lose(host_of(talker))
                await talker.hang_up()
                talker._server.url = other.url
                await talker.connect()
                assert await asked(talker, "blue") == "red and green and blue"
                async with Talker(other.url) as newcomer:
                    assert await asked(newcomer, "white") == "white"
                await talker.end()

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(Path(name)))


def test_a_key_opens_at_another_front_what_it_opened_and_nothing_once_that_has_ended() -> None:
    async def main(folder: Path) -> None:
        async with two_fronts(folder, 2) as (one, other):
            offer = await a_good_offer()
            async with Talker(one.url) as talker, Talker(one.url) as stranger:
                assert await asked(talker, "red") == "red"
                session, key = talker.session, talker.key
                await other.until(lambda: other.front.kept.find(session) and other.front.kept.find(stranger.session))
                for forged in ("", "guess", key[:-1], stranger.key, other.front.kept.find(session).key):
                    body = {"sdp": offer, "session": session, "key": forged}
                    assert (await other.ask("POST", "/offer", json=body))[0] == 404
                    assert (await other.ask("DELETE", f"/sessions/{session}?key={forged}"))[0] == 404
                assert (await other.ask("GET", f"/sessions/{session}?key={key}"))[1] == {"stands": True}
                assert await asked(talker, "green") == "red and green", "nothing of that has disturbed it"
            await other.until(lambda: other.front.kept.find(session) is None)
            for front in (one, other):
                body = {"sdp": offer, "session": session, "key": key}
                assert (await front.ask("POST", "/offer", json=body))[0] == 404, "it is over, wherever it is asked for"

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(Path(name)))


def test_a_front_that_is_told_of_a_host_of_another_protocol_says_which_version_it_is() -> None:
    spec: Any = None
    front = Front(spec, HOUSED, "p")
    front.add(HostRecord.read(RECORD | {"protocol": PROTOCOL + 1, "version": "9.9"}))
    (row,) = asyncio.run(front.hosts())
    assert (row["version"], row["conversations"]) == ("9.9", {})
