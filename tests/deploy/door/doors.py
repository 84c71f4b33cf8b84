"""Servers of ours to knock at, by raw bytes: every one stands behind the same door."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

from aiohttp import web

from thalweg.deploy.door.doorkeeper import DoorLimits
from thalweg.deploy.door.front_door import DoorSettings, FrontDoor
from thalweg.deploy.door.listening import listening

PATIENCE_S = 30.0
SETTINGS = DoorSettings(
    limits=DoorLimits(header_s=0.5, request_s=2.0, connections=20, per_address=10), body_s=0.5, body_bytes=1000
)


@asynccontextmanager
async def a_server(
    settings: DoorSettings = SETTINGS, knows: Callable[[web.Request], bool] = lambda request: False
) -> AsyncIterator[tuple[FrontDoor, int]]:
    """One with a route that echoes, one that fails and one that answers with more than anybody takes."""

    async def echo(request: web.Request) -> web.StreamResponse:
        return web.json_response({"body": await request.text(), "from": door.address(request)})

    async def fail(request: web.Request) -> web.StreamResponse:
        raise RuntimeError("the password is swordfish")

    async def much(request: web.Request) -> web.StreamResponse:
        return web.Response(body=bytes(50_000_000))

    door = FrontDoor(settings, knows=knows)
    application = door.application()
    application.add_routes(
        [web.get("/echo", echo), web.post("/echo", echo), web.get("/fail", fail), web.get("/much", much)]
    )
    async with listening(door, application, "127.0.0.1", 0) as port:
        yield door, port


def limited(**limits: Any) -> DoorSettings:
    return replace(SETTINGS, limits=replace(SETTINGS.limits, **limits))


async def answer(port: int, request: bytes, *, ssl: Any = None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what comes back for raw bytes, until the server hangs up or has answered."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=ssl)
        writer.write(request)
        try:
            return await read_answer(reader)
        finally:
            writer.close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(first.split()[1]), headers, body


def told(body: bytes) -> dict[str, Any]:
    found = json.loads(body)
    assert isinstance(found, dict)
    return found


Opened = Callable[[], AbstractAsyncContextManager[int]]
