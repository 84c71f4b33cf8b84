"""A server that echoes, and somebody who asks it things."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
from aiortc import RTCPeerConnection

from thalweg.deploy.cluster.host import Bundle
from thalweg.deploy.door.listening import listening
from thalweg.deploy.server.app import WebServer
from thalweg.deploy.server.conversations import Conversations
from thalweg.deploy.server.serve import certificate_of
from thalweg.deploy.server.service import LocalConversations
from thalweg.deploy.server.settings import ServerSettings
from thalweg.pipeline.file.spec import load_spec

PARROT = """
name: parrot
stages:
  microphone: {use: live.microphone}
  speaker: {use: live.speaker}
connections:
  - microphone -> speaker
"""
SETTINGS = ServerSettings(host="127.0.0.1", port=0, admin_token="admin", drain_s=2.0, late_s=60.0, used=60.0)
PATIENCE_S = 60.0

Case = Callable[["Server"], Awaitable[None]]


class Server:
    """A running server and ways to ask it."""

    def __init__(self, conversations: Conversations, url: str, http: aiohttp.ClientSession) -> None:
        self.conversations = conversations
        self.url = url
        self.http = http

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self.http.request(method, self.url + path, **options) as response:
            kind = response.content_type
            return response.status, await (response.json() if kind == "application/json" else response.text())

    async def offer(self, sdp: object, **more: object) -> tuple[int, Any]:
        return await self.ask("POST", "/offer", json={"sdp": sdp, **more})

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running(settings: ServerSettings, pipeline: str = PARROT) -> AsyncIterator[Server]:
    bundle = Bundle(main="pipeline.yaml", files={"pipeline.yaml": pipeline}, settings={}, token="")
    conversations = Conversations(load_spec(pipeline, "pipeline.yaml"), settings, bundle)
    server = WebServer(LocalConversations(conversations, settings), settings)
    certificate = certificate_of(settings)
    context = certificate.context if certificate else None
    async with (
        listening(server.door, server.application, settings.host, 0, context) as port,
        asyncio.TaskGroup() as group,
        aiohttp.ClientSession() as http,
    ):
        serving = group.create_task(conversations.run())
        scheme = "https" if settings.certificate else "http"
        asked = Server(conversations, f"{scheme}://127.0.0.1:{port}", http)
        await asked.until(lambda: conversations.ready)
        try:
            yield asked
        finally:
            for session in list(conversations.sessions.values()):
                session.end("test", "over")
            await asked.until(lambda: not conversations.sessions)
            serving.cancel()


def run(case: Case, settings: ServerSettings = SETTINGS, pipeline: str = PARROT) -> None:
    async def main() -> None:
        async with running(settings, pipeline) as server:
            await case(server)

    asyncio.run(main())


async def a_good_offer() -> str:
    peer = RTCPeerConnection()
    peer.addTransceiver("audio")
    await peer.setLocalDescription(await peer.createOffer())
    sdp = peer.localDescription.sdp
    await peer.close()
    return sdp


def tone(seconds: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return (0.5 * np.sin(np.arange(round(48_000 * seconds)) * 0.05)).astype(np.float32)
