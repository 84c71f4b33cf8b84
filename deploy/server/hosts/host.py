"""A conversation host: what runs the same in a subprocess and in a Ray actor, until it is told to stop or left alone.

It listens before its first pipeline is open, and says `loading` until it is. A host without conversations that no front
has asked for `ALONE_S` ends: so fronts may restart, and no host is left behind when they do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from thalweg import __version__
from thalweg.deploy.cluster.host import Bundle, load_bundle
from thalweg.deploy.door.front_door import left_behind
from thalweg.deploy.door.listening import listening
from thalweg.deploy.server.conversations import Conversations
from thalweg.deploy.server.hosts.moving import Moving
from thalweg.deploy.server.hosts.news import NewsFeed
from thalweg.deploy.server.hosts.private_server import PrivateServer
from thalweg.deploy.server.hosts.record import NAME, PROTOCOL, HostRecord
from thalweg.deploy.server.service import LocalConversations
from thalweg.deploy.server.settings import IceServer, ServerSettings
from thalweg.stages.io.private import create_private
from thalweg.transports.grpc.tls import make_certificates

log = logging.getLogger(__name__)

ALONE_S = 60.0
EMPTY_S = 2.0
TICK_S = 0.5


class HostOrder(BaseModel):
    """What a host is told when it is started. `where`: a path for a Unix socket, or an address for TLS over TCP.

    `logs`: how a process that logs nowhere yet does, `text` or `json`.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)
    name: str = Field(pattern=f"^{NAME}$")
    bundle: dict[str, Any] = Field(repr=False)
    where: str
    settings: dict[str, Any] = Field(default_factory=dict, repr=False)
    drain_s: float = 30.0
    logs: str = ""
    zone: str = ""


PASSED_ON = (
    "sessions",
    "late_s",
    "used",
    "per_address",
    "connecting",
    "session_s",
    "resume_s",
    "connect_s",
)
"""Settings of a server that its hosts are told; everything else is the front's."""


def settings_for_hosts(settings: ServerSettings) -> dict[str, Any]:
    """As plain values."""
    ice = [{"url": one.url, "username": one.username, "credential": one.credential} for one in settings.ice]
    return {name: getattr(settings, name) for name in PASSED_ON} | {"ice": ice}


class ConversationHost:
    """Runs one. `stop` ends it at once; `over` says whether it has ended itself."""

    def __init__(self, order: HostOrder) -> None:
        given = dict(order.settings)
        ice = tuple(IceServer(**one) for one in given.pop("ice", ()))
        settings = ServerSettings(ice=ice, **given)
        bundle = Bundle(**order.bundle)
        self._order = order
        self.conversations = Conversations(load_bundle(bundle), settings, bundle, order.name)
        self._news_feed = NewsFeed(self.conversations)
        self._moving = Moving(self.conversations, order.drain_s)
        self._token = secrets.token_urlsafe(32)
        self._digest = bundle.digest
        self._stopping = asyncio.Event()
        self._server = PrivateServer(
            LocalConversations(self.conversations, settings),
            self._news_feed,
            self._moving,
            self._token,
            self._digest,
            self.stop,
        )

    def stop(self) -> None:
        """End it. Idempotent."""
        self._stopping.set()

    async def run(self, tell: Callable[[HostRecord], object]) -> None:
        """Serve until stopped or left alone. `tell` is given how it is reached, once it is. Raises OSError."""
        asyncio.get_running_loop().set_exception_handler(partial(left_behind, self._server.door))
        async with self._listening() as record:
            tell(record)
            log.info("conversation host %s is there", record.name)
            async with asyncio.TaskGroup() as group:
                running = [
                    group.create_task(self.conversations.run()),
                    group.create_task(self._news_feed.run()),
                    group.create_task(self._moving.run()),
                    group.create_task(self._watch()),
                ]
                await self._stopping.wait()
                for session in list(self.conversations.sessions.values()):
                    session.end("closing", "This server is about to stop. Start a new conversation.")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EMPTY_S):
                        await self.conversations.empty()
                for task in running:
                    task.cancel()

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[HostRecord]:
        where = self._order.where
        door, application = self._server.door, self._server.application
        record = HostRecord(
            name=self._order.name,
            url=f"unix:{where}" if where.startswith("/") else "https://-",
            token=self._token,
            version=__version__,
            protocol=PROTOCOL,
            pipeline=self._digest,
            pid=os.getpid(),
            zone=self._order.zone,
        )
        if where.startswith("/"):
            async with listening(door, application, f"unix:{where}", 0):
                yield record
            return
        certificates = make_certificates()
        context = _context(certificates.certificate, certificates.key)
        async with listening(door, application, where, 0, context) as port:
            shown = f"[{where}]" if ":" in where else where
            yield record.model_copy(
                update={"url": f"https://{shown}:{port}", "authority": certificates.authority.decode()}
            )

    async def _watch(self) -> None:
        """End the host once it has no conversations, and was drained or has no front."""
        while True:
            await asyncio.sleep(TICK_S)
            if self.conversations.sessions or self.conversations.newcomers or self.conversations.arriving:
                continue
            alone = time.monotonic() - self._news_feed.asked_s > ALONE_S
            if alone or self._moving.ends:
                log.info("conversation host %s ends: %s", self._order.name, "no front asks" if alone else "drained")
                self._stopping.set()


def _context(certificate: bytes, key: bytes) -> ssl.SSLContext:
    """A server's context. The key lies in a file of this user's alone for as long as it takes to read it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pem")
        with create_private(path) as file:
            file.write(certificate + key)
        context.load_cert_chain(path)
    return context
