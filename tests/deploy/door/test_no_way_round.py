"""Every server of ours stands behind the door: none of the other ways to listen is used anywhere, and each is tried."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conftest import require_package
from tests.deploy.door.doors import answer, told
from tests.deploy.server.serving import PARROT, SETTINGS, running
from thalweg.deploy.door.listening import listening
from thalweg.deploy.fleet.hub.page import HubPage
from thalweg.deploy.fleet.hub.state import HubState
from thalweg.deploy.ops.observing.metrics import serving_metrics
from thalweg.deploy.ops.observing.readings import Stats
from thalweg.deploy.server.conversations import Conversations
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
async def hub_page() -> AsyncIterator[int]:
    with TemporaryDirectory() as folder:
        state = HubState(Path(folder))
        try:
            page = HubPage(state)
            async with listening(page.door, page.application, "127.0.0.1", 0) as port:
                yield port
        finally:
            state.close()


SERVERS: dict[str, Callable[[], AbstractAsyncContextManager[int]]] = {
    "serve": serve,
    "serve --metrics": metrics_of_serve,
    "up --metrics": metrics,
    "hub --page": hub_page,
}
"""Every one there is; one that is added elsewhere fails the test above."""


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
            assert found == status
            assert told(body)["error"]
            assert headers["x-content-type-options"] == "nosniff"

    asyncio.run(case())
