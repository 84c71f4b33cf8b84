"""Every server of ours stands behind the door: none of the other ways to listen is used anywhere, and each is tried."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conftest import require_package
from tests.deploy.door.doors import answer, told
from tests.deploy.server.serving import PARROT, SETTINGS, running
from thalweg.deploy.door.listening import listening
from thalweg.deploy.fleet.hub.app import HubApp
from thalweg.deploy.fleet.hub.page import HubPage
from thalweg.deploy.fleet.hub.state import HubState
from thalweg.deploy.ops.observing.metrics import serving_metrics
from thalweg.deploy.ops.observing.readings import Stats
from thalweg.deploy.server.conversations import Conversations
from thalweg.deploy.server.hosts.moving import Moving
from thalweg.deploy.server.hosts.news import NewsFeed
from thalweg.deploy.server.hosts.private_server import PrivateServer
from thalweg.deploy.server.observing.exporter import metrics_only
from thalweg.deploy.server.service import LocalConversations
from thalweg.pipeline.file.spec import load_spec

ROOT = Path(__file__).parents[3]
ROOMS = ("pipeline", "models", "transports", "stages", "deploy")
ROUND = re.compile(
    r"web\.(AppRunner|ServerRunner|TCPSite|SockSite|UnixSite|run_app|Application|Server)\(|start_http_server"
    r"|make_wsgi_app|asyncio\.start_server|\bcreate_server\(|HTTPServer\b|import (http\.server|wsgiref|uvicorn|flask)"
)
ALLOWED = {
    "deploy/bench/core/cutting.py": {"asyncio.start_server"},  # passes bytes on, and cuts them: no HTTP
    "deploy/bench/fleet/cloud.py": {"asyncio.start_server"},  # passes bytes on, and holds them up: no HTTP
    "deploy/bench/language/modelserver.py": {"asyncio.start_server"},  # a model server that fails as it is told to
    "deploy/fleet/lending/lender.py": {"create_server("},  # frames over mutual TLS, none before the handshake
    "deploy/fleet/lending/ray_actor.py": {"create_server(", "asyncio.start_server"},  # the same, for one who comes
    "deploy/door/front_door.py": {"web.Application("},
    "deploy/door/listening.py": {"web.AppRunner("},
}


def ways_round() -> list[str]:
    found = []
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                match = ROUND.search(line)
                if match and match[0] not in ALLOWED.get(name, set()):
                    found.append(f"{name}:{number}: {match[0]}")
    return found


def test_no_server_of_ours_listens_to_http_but_through_the_door() -> None:
    assert ways_round() == []


async def nothing() -> tuple[Stats, dict[str, int]]:
    return {}, {}


@asynccontextmanager
async def metrics() -> AsyncIterator[int]:
    with serving_metrics("0", "x", nothing) as url:
        yield int(url.rpartition(":")[2].partition("/")[0])


@asynccontextmanager
async def serve() -> AsyncIterator[int]:
    async with running(SETTINGS) as server:
        yield int(server.url.rpartition(":")[2])


@asynccontextmanager
async def metrics_of_serve() -> AsyncIterator[int]:
    house = LocalConversations(Conversations(load_spec(PARROT, "parrot.yaml"), SETTINGS), SETTINGS)
    door, application = metrics_only(house.metrics, SETTINGS)
    async with listening(door, application, "127.0.0.1", 0) as port:
        yield port


@asynccontextmanager
async def hub(of: type[HubApp] | type[HubPage]) -> AsyncIterator[int]:
    require_package("cryptography", "hub")
    with TemporaryDirectory() as folder, closing(HubState(Path(folder))) as state:
        server = of(state)
        async with listening(server.door, server.application, "127.0.0.1", 0) as port:
            yield port


def host_of_conversations() -> PrivateServer:
    house = Conversations(load_spec(PARROT, "parrot.yaml"), SETTINGS)
    service = LocalConversations(house, SETTINGS)
    return PrivateServer(service, NewsFeed(house), Moving(house, 1.0), "a" * 32, "", lambda: None)


@asynccontextmanager
async def private() -> AsyncIterator[int]:
    server = host_of_conversations()
    async with listening(server.door, server.application, "127.0.0.1", 0) as port:
        yield port


SERVERS: dict[str, Callable[[], AbstractAsyncContextManager[int]]] = {
    "serve": serve,
    "serve --metrics": metrics_of_serve,
    "up --metrics": metrics,
    "hub": partial(hub, HubApp),
    "hub --page": partial(hub, HubPage),
    "a conversation host": private,
}
"""Every one there is; one that is added elsewhere fails the test above."""
CLOSED = {"a conversation host": {404: 401}}
"""Servers that tell a stranger nothing, not even what there is not."""


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", 403),
        (b"GET /no/such/thing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"no http\r\n\r\n", 400),
    ],
)
def test_each_of_them_refuses_as_the_others_do(server: str, request_bytes: bytes, status: int) -> None:
    require_package("prometheus_client", "metrics")

    async def case() -> None:
        async with SERVERS[server]() as port:
            found, headers, body = await answer(port, request_bytes)
            assert found == CLOSED.get(server, {}).get(status, status)
            assert told(body)["error"]
            assert headers["x-content-type-options"] == "nosniff"

    asyncio.run(case())


def test_a_stranger_at_a_conversation_host_has_one_answer_for_each_connection() -> None:
    async def case() -> None:
        server = host_of_conversations()
        request = b"POST /news HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        async with listening(server.door, server.application, "127.0.0.1", 0) as port, asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request * 3)
            assert (await reader.read()).count(b"HTTP/1.1 401 ") == 1
            writer.close()

    asyncio.run(case())
