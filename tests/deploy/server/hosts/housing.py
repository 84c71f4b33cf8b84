"""A front and conversation hosts in processes of their own, as `thalweg serve FILE --on subprocess` runs them."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from tests.deploy.server.serving import PATIENCE_S, SETTINGS
from thalweg.deploy.bench.dialogue.scripted import pipeline
from thalweg.deploy.cluster.host import Bundle
from thalweg.deploy.door.listening import listening
from thalweg.deploy.server.app import WebServer
from thalweg.deploy.server.hosts.front import Front
from thalweg.deploy.server.hosts.host import ConversationHost, HostOrder, settings_for_hosts
from thalweg.deploy.server.hosts.record import SUFFIX, records_in
from thalweg.deploy.server.hosts.subprocesses import SubprocessHosts
from thalweg.deploy.server.settings import ServerSettings
from thalweg.pipeline.file.spec import load_spec
from thalweg.transports.webrtc.client import Talker

ADMIN = {"Authorization": "Bearer admin"}
HOUSED = replace(SETTINGS, per_address=100, drain_s=10.0)
Case = Callable[["Housed"], Awaitable[None]]
LEFT: list[asyncio.subprocess.Process] = []
"""Hosts of fronts that have ended without them."""
Launched = Callable[[Front], AbstractAsyncContextManager[None]]


def bundle_of(text: str) -> Bundle:
    return Bundle(main="pipeline.yaml", files={"pipeline.yaml": text}, settings={}, token="")


class Housed:
    """A front with its hosts in `folder`, and ways to ask it."""

    def __init__(self, front: Front, url: str, http: aiohttp.ClientSession, folder: Path) -> None:
        self.front = front
        self.url = url
        self.http = http
        self.folder = folder

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self.http.request(method, self.url + path, headers=ADMIN, **options) as response:
            kind = response.content_type
            return response.status, await (response.json() if kind == "application/json" else response.text())

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def ready(self, count: int) -> bool:
        return sum(link.takes and not link.told.not_ready for link in self.front.links.values()) == count

    def lose(self, host: str) -> None:
        """The front cannot reach a host any more, as after its machine has died."""
        self.front.remove(host)
        (self.folder / f"{host}{SUFFIX}").unlink(missing_ok=True)

    def remembers(self, talker: Talker, turns: int) -> bool:
        """Whether the front knows so many turns of a conversation, and that nothing is under way."""
        kept = self.front.kept.find(talker.session)
        chat = {} if kept is None or kept.snapshot is None else kept.snapshot["stages"].get("chat", {})
        return bool(chat) and len(chat["past"]) == turns and chat["asked"] is None

    def pid(self, host: str) -> int:
        return next(record.pid for record in records_in(self.folder) if record.name == host)

    def kill(self, host: str) -> None:
        os.kill(self.pid(host), signal.SIGKILL)


@asynccontextmanager
async def fronted(folder: Path, settings: ServerSettings, text: str, launcher: Launched) -> AsyncIterator[Housed]:
    """A front, with what `launcher` makes for it."""
    front = Front(load_spec(text, "pipeline.yaml"), settings, bundle_of(text).digest)
    server = WebServer(front, settings)
    async with (
        listening(server.door, server.application, settings.host, settings.port) as port,
        asyncio.TaskGroup() as group,
        aiohttp.ClientSession() as http,
    ):
        running = group.create_task(front.run())
        async with launcher(front):
            yield Housed(front, f"http://{settings.host}:{port}", http, folder)
        running.cancel()


def front_at(
    folder: Path, count: int, settings: ServerSettings, text: str, *, ends: bool = True
) -> AbstractAsyncContextManager[Housed]:
    """A front that keeps hosts in processes, or finds them in the folder; with `ends` they end with it."""

    @asynccontextmanager
    async def launcher(front: Front) -> AsyncIterator[None]:
        hosts = SubprocessHosts(front, bundle_of(text), settings, count, folder)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(hosts.run())
            try:
                yield
            finally:
                running.cancel()
                if ends:
                    await hosts.end()
                LEFT.extend(started.process for started in hosts._started.values())

    return fronted(folder, settings, text, launcher)


@asynccontextmanager
async def hosts_inside(folder: Path, count: int, settings: ServerSettings, text: str) -> AsyncIterator[None]:
    """Hosts in this process, as what is said between them and fronts does not depend on where they are."""
    async with asyncio.TaskGroup() as group:
        hosts = []
        for number in range(1, count + 1):
            order = HostOrder(
                name=f"host-{number}",
                bundle=bundle_of(text).plain(),
                where=str(folder / f"host-{number}.sock"),
                settings=settings_for_hosts(settings),
                drain_s=settings.drain_s,
            )
            hosts.append(ConversationHost(order))
            group.create_task(hosts[-1].run(lambda record: record.keep(folder)))
        yield
        for host in hosts:
            host.stop()


def front_inside(folder: Path, settings: ServerSettings, text: str) -> AbstractAsyncContextManager[Housed]:
    """A front of hosts that are in the folder."""

    @asynccontextmanager
    async def launcher(front: Front) -> AsyncIterator[None]:
        for record in records_in(folder):
            front.add(record)
        yield

    return fronted(folder, settings, text, launcher)


def housed(case: Case, count: int = 2, settings: ServerSettings = HOUSED, text: str = "", apart: bool = False) -> None:
    """Run a case with as many hosts, once all of them are ready; `apart`: in processes of their own."""
    text = text or pipeline()

    async def main() -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            async with AsyncExitStack() as stack:
                if apart:
                    there = await stack.enter_async_context(front_at(folder, count, settings, text))
                else:
                    await stack.enter_async_context(hosts_inside(folder, count, settings, text))
                    while len(list(records_in(folder))) < count:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                    there = await stack.enter_async_context(front_inside(folder, settings, text))
                await there.until(lambda: there.ready(count))
                await case(there)

    asyncio.run(main())


async def reaped() -> None:
    """Wait for hosts whose fronts have ended without them."""
    while LEFT:
        await LEFT.pop().wait()


def host_of(talker: Talker) -> str:
    return talker.session[:-13]


async def asked(talker: Talker, text: str) -> str:
    """What is answered to a question in writing, once all of it was heard."""
    talker.ask(text)
    while True:
        heard = await talker.next("heard")
        if heard["complete"]:
            return str(heard["text"])
