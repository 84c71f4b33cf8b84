"""One host as a front sees it: silent, refusing the front itself, with somebody else's authority, or none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from thalweg.deploy.door.refused import Refused
from thalweg.deploy.server.hosts.front import Front
from thalweg.deploy.server.hosts.link import HostLink, HostLost, LinkState
from thalweg.deploy.server.hosts.news import HostState, News
from thalweg.deploy.server.hosts.record import HostRecord
from thalweg.deploy.server.settings import ServerSettings


def record(**other: Any) -> HostRecord:
    given = {"name": "host-1", "url": "unix:/x", "token": "t" * 40, "version": "1", "protocol": 1, "pipeline": "p"}
    return HostRecord.model_validate(given | other)


@asynccontextmanager
async def linked(path: Path, connect: Any) -> AsyncIterator[tuple[HostLink, asyncio.Event]]:
    """A link that is up, to a host that answers `/connect` as told and `/news` until the event is set."""
    silent = asyncio.Event()

    async def news(request: web.Request) -> web.Response:
        await asyncio.sleep(60.0 if silent.is_set() else 0.05)
        told = News(boot="b", number=1, state=HostState(), changed={}, all=[])
        return web.json_response(told.model_dump())

    application = web.Application()
    application.add_routes([web.post("/news", news), web.post("/connect", connect)])
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    link = HostLink(record(url=f"unix:{path}"), "p", lambda link, news: None)
    running = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(10.0):
            while link.state is not LinkState.UP:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield link, silent
    finally:
        running.cancel()
        await asyncio.wait([running])
        await runner.cleanup()


@pytest.mark.parametrize(
    ("draining", "ending", "said"),
    [
        (True, False, ("INFO", "conversation host host-1, which was to end, is gone")),
        (False, True, ("INFO", "conversation host host-1, which was to end, is gone")),
        (False, False, ("WARNING", "conversation host host-1 is lost: gone")),
    ],
)
def test_a_host_that_ends_because_it_was_told_to_is_no_cause_for_alarm(
    draining: bool, ending: bool, said: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    link = HostLink(record(), "p", lambda link, news: None)
    link.told, link.ending = HostState(draining=draining), ending
    for _ in range(2):
        link._become(LinkState.LOST, "gone")
    link._become(LinkState.UP, "")
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        said,
        ("INFO", "conversation host host-1 is up"),
    ]


def test_whoever_waits_for_a_host_that_falls_silent_waits_no_longer_than_it_takes_to_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thalweg.deploy.server.hosts.link.LATE_S", 0.5)

    async def never(request: web.Request) -> web.Response:
        await asyncio.sleep(60.0)
        return web.Response()

    async def main() -> float:
        async with linked(tmp_path / "s", never) as (link, silent):
            silent.set()
            began_s = time.monotonic()
            with pytest.raises(HostLost, match="lost while it was asked"):
                await link.ask("/connect", {}, within_s=50.0)
            return time.monotonic() - began_s

    assert asyncio.run(main()) < 20.0


def test_a_newcomer_is_pending_from_the_answer_until_news_that_must_count_them(tmp_path: Path) -> None:
    async def takes(request: web.Request) -> web.Response:
        return web.json_response({})

    async def main() -> None:
        async with linked(tmp_path / "s", takes) as (link, _):
            link.took("host-1-a", "10.0.0.1")
            assert link.pending == link.pending_from("10.0.0.1") == 1
            assert link.pending_from("10.0.0.2") == 0
            asked = link._requests
            while link.pending:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert link._requests >= asked + 1, "an answer to what was asked before may not know of them"

    asyncio.run(asyncio.wait_for(main(), 20.0))


@pytest.mark.parametrize(("status", "raised"), [(401, HostLost), (426, HostLost), (500, HostLost), (404, Refused)])
def test_what_a_host_refuses_a_front_for_is_not_said_of_the_person(
    tmp_path: Path, status: int, raised: type[Exception]
) -> None:
    async def refuses(request: web.Request) -> web.Response:
        return web.json_response({"error": "token", "message": "This is for fronts."}, status=status)

    async def main() -> None:
        async with linked(tmp_path / "s", refuses) as (link, _):
            with pytest.raises(raised):
                await link.ask("/connect", {})

    asyncio.run(main())


@pytest.mark.parametrize("authority", ["", "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----"])
def test_a_host_without_an_authority_of_its_own_is_not_asked_whoever_else_may_vouch_for_it(authority: str) -> None:
    link = HostLink(record(url="https://127.0.0.1:1", authority=authority), "p", lambda link, news: None)
    asyncio.run(asyncio.wait_for(link.run(), 5.0))
    assert (link.state, link.why) == (LinkState.REFUSED, "its authority cannot be read")


@pytest.mark.parametrize(
    "wrong", [{"name": "../x"}, {"name": "x\n"}, {"url": "x https://h"}, {"url": "unix:/" + "x" * 300}]
)
def test_a_record_with_another_name_or_address_than_hosts_have_is_none(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        record(**wrong)


@pytest.mark.parametrize(
    ("why", "told"),
    [("loading", "loading"), ("no such file: /home/us/models/secret.gguf", "the pipeline cannot be started")],
)
def test_what_keeps_a_host_from_being_ready_is_not_told_to_everybody(why: str, told: str) -> None:
    spec: Any = None  # which it does not look at for this
    front = Front(spec, ServerSettings(), "p")
    front.add(record())
    link = front.links["host-1"]
    link.state, link.told = LinkState.UP, HostState(not_ready=why)
    assert front.not_ready == told
