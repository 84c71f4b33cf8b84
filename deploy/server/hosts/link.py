"""A front's side of one conversation host: its calls, its news, and whether it is there.

state    event                                    next
NEW      it answered with news                    UP
NEW      it answered, and is not to be used       REFUSED  of another version, or with another pipeline: it gets no new
                                                           conversations, and those on it go on
NEW      it does not answer                       LOST
UP       it does not answer within `LATE_S`       LOST     its conversations may go on elsewhere
UP       it is not to be used                     REFUSED
LOST     it answers                               UP
LOST     it answers, and is not to be used        REFUSED
REFUSED  it does not answer                       LOST
REFUSED  it answers, and is to be used            UP
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any

import aiohttp
from pydantic import ValidationError

from thalweg.deploy.door.refused import Refused
from thalweg.deploy.runtime.tasks import beside
from thalweg.deploy.server.hosts.news import HostState, News
from thalweg.deploy.server.hosts.private_server import BODY_BYTES, VERSION_HEADER
from thalweg.deploy.server.hosts.record import PROTOCOL, HostRecord
from thalweg.deploy.server.observing import tracing
from thalweg.pipeline.errors import ThalwegError
from thalweg.transports.grpc.tls import NAME

log = logging.getLogger(__name__)

LATE_S = 3.0
AGAIN_S = 0.2
SILENT_S = 1.0
"""Whose host has been lost for so long waits for its answer no longer: there may be another one to ask."""
MOVED_S = 5.0
MOST_NEWS = 1 << 28
MOST_CALLS = 200
_OF_FRONTS = (401, 408, 413, 415, 421, 426, 500)
"""Refusals that say nothing about the person who is asked for, and are not for their eyes."""


class HostLost(ThalwegError):
    """A conversation host that does not answer."""


class LinkState(Enum):
    """See the table above."""

    NEW = "new"
    UP = "up"
    LOST = "lost"
    REFUSED = "refused"


TRANSITIONS: Mapping[LinkState, frozenset[LinkState]] = {
    LinkState.NEW: frozenset({LinkState.UP, LinkState.REFUSED, LinkState.LOST}),
    LinkState.UP: frozenset({LinkState.LOST, LinkState.REFUSED}),
    LinkState.LOST: frozenset({LinkState.UP, LinkState.REFUSED}),
    LinkState.REFUSED: frozenset({LinkState.LOST, LinkState.UP}),
}
"""The table above as data: state → possible next states, without itself."""


class HostLink:
    """One host. `run` asks for its news and gives each to `on_news`; `told`: how it was, last. `why`: see REFUSED.

    `asked`: requests of newcomers under way. `emptied`: it was told to move all conversations elsewhere. `pipeline`:
    what newcomers are to talk to. `ending`: its front has told it to end.
    """

    def __init__(self, record: HostRecord, pipeline: str, on_news: Callable[[HostLink, News], None]) -> None:
        self.record = record
        self.state = LinkState.NEW
        self.told = HostState(not_ready="loading")
        self.why = ""
        self.asked = 0
        self.emptied = False
        self.ending = False
        self.changed: Callable[[], None] = lambda: None
        self._pipeline = pipeline
        self._on_news = on_news
        self._http: aiohttp.ClientSession | None = None
        self._lost = asyncio.Event()
        self._requests = 0
        self._untold: dict[str, tuple[int, str]] = {}

    @property
    def name(self) -> str:
        """Of the host."""
        return self.record.name

    @property
    def takes(self) -> bool:
        """Whether newcomers may be sent there."""
        return self.state is LinkState.UP and not self.told.draining

    @property
    def pending(self) -> int:
        """Newcomers who were sent there, and whom its last news did not count yet."""
        return self.asked + len(self._untold)

    def described(self, conversations: Mapping[str, int]) -> dict[str, Any]:
        """For the operator. `conversations`: how many there are, by state."""
        draining = self.told.draining and self.state is not LinkState.LOST
        return {
            "name": self.name,
            "state": "draining" if draining else self.state.value,
            "why": self.why or self.told.not_ready,
            "version": self.record.version,
            "zone": self.record.zone,
            "pid": self.record.pid,
            "conversations": dict(conversations),
            "limit": self.told.limit,
            "used": round(self.told.used, 3),
            "late_s": round(self.told.late_s, 4),
        }

    def pending_from(self, address: str) -> int:
        """How many of those whom the host took, and whom its last news did not count, came from an address."""
        return sum(one == address for _, one in self._untold.values())

    def took(self, session: str, address: str) -> None:
        """The host has taken a newcomer. They are pending until news that must count them: those that name the
        conversation, or were requested after this.
        """
        self._untold[session] = self._requests, address

    async def run(self) -> None:
        """Run until cancelled. Returns at once where the record's certificate authority cannot be used."""
        try:
            connector = self._connector()
        except (ssl.SSLError, ValueError):
            self._become(LinkState.REFUSED, "its authority cannot be read")
            return
        async with self._session(connector) as self._http:
            boot, since = "", -1
            while True:
                try:
                    news = await self._news(boot, since)
                except HostLost as lost:
                    self._become(LinkState.LOST, str(lost))
                    await asyncio.sleep(AGAIN_S)
                    continue
                except Refused as refused:
                    self._become(LinkState.REFUSED, str(refused))
                    await asyncio.sleep(LATE_S)
                    continue
                boot, since = news.boot, news.number
                self.told = news.state
                self._counted(set(news.all))
                self._on_news(self, news)
                other = self.record.pipeline != self._pipeline
                self._become(LinkState.REFUSED if other else LinkState.UP, "it serves another pipeline")

    async def ask(self, path: str, body: Mapping[str, Any], *, within_s: float = 30.0) -> dict[str, Any]:
        """Send a request about a visitor to the host and return its answer. Raises Refused as the host says, and
        HostLost where it does not answer, is lost meanwhile, or refuses the front itself.
        """
        async with beside(self._told(path, body, within_s)) as told, beside(self._silent()) as silent:
            await asyncio.wait({told, silent}, return_when=asyncio.FIRST_COMPLETED)
            if not told.done():
                raise HostLost(f"conversation host {self.name} was lost while it was asked")
            try:
                return told.result()
            except Refused as refused:
                if refused.status not in _OF_FRONTS:
                    raise
                raise HostLost(
                    f"conversation host {self.name} refuses a front: {refused.status} {refused.code}"
                ) from None

    async def moved(self, session: str, key: str) -> None:
        """Have the host end a conversation that goes on elsewhere; where it does not, the log says so."""
        try:
            await self.ask("/end", {"session": session, "key": key, "moved": True}, within_s=MOVED_S)
        except (HostLost, Refused) as error:
            log.warning("conversation host %s did not end what was moved: %s", self.name, error)

    async def stays(self, session: str, key: str) -> None:
        """Have the host answer what it held back for a move that failed; without this it does after 20 s."""
        with contextlib.suppress(HostLost, Refused):
            await self.ask("/stay", {"session": session, "key": key}, within_s=MOVED_S)

    async def _silent(self) -> None:
        """Return once it has been lost for `SILENT_S`."""
        while True:
            await self._lost.wait()
            await asyncio.sleep(SILENT_S)
            if self._lost.is_set():
                return

    async def _told(self, path: str, body: Mapping[str, Any], within_s: float) -> dict[str, Any]:
        """What a host answers. Raises HostLost where it does not, and Refused as it says."""
        status, found = await self._ask(path, body, within_s)
        if status != 200:
            code, message = str(found.get("error", "refused"))[:60], str(found.get("message", "It was refused."))[:500]
            raise Refused(status, code, message)
        return found

    def _counted(self, there: set[str]) -> None:
        """News have come, the answer to the last request for them."""
        for session, (requests, _) in list(self._untold.items()):
            if session in there or requests < self._requests:
                del self._untold[session]

    async def _news(self, boot: str, since: int) -> News:
        self._requests += 1
        found = await self._told("/news", {"boot": boot, "since": since, "pipeline": self._pipeline}, LATE_S)
        try:
            return News.model_validate(found)
        except ValidationError:
            raise HostLost(f"conversation host {self.name} tells news that cannot be read") from None

    async def _ask(self, path: str, body: Mapping[str, Any], within_s: float) -> tuple[int, dict[str, Any]]:
        if self._http is None:
            raise HostLost(f"conversation host {self.name} is not asked any more")
        secure = self.record.url.startswith("https://")
        url = self.record.url if secure else "http://localhost"
        try:
            async with (
                asyncio.timeout(within_s),
                self._http.post(
                    url + path,
                    json=dict(body),
                    headers=tracing.headers(),
                    server_hostname=NAME if secure else None,
                    allow_redirects=False,
                ) as response,
            ):
                text = bytearray()
                async for part in response.content.iter_any():
                    text += part
                    if len(text) > (MOST_NEWS if path == "/news" else BODY_BYTES * 16):
                        raise HostLost(f"conversation host {self.name} answers without end")
                found = json.loads(text)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RuntimeError) as error:
            raise HostLost(f"conversation host {self.name} does not answer: {type(error).__name__}") from None
        if not isinstance(found, dict):
            raise HostLost(f"conversation host {self.name} answers with what is no object")
        return response.status, found

    def _connector(self) -> aiohttp.BaseConnector:
        """Over TLS, only a host certified by the record's own authority. Raises SSLError, ValueError without one."""
        if self.record.url.startswith("unix:"):
            return aiohttp.UnixConnector(self.record.url.removeprefix("unix:"), limit=MOST_CALLS)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.record.authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return aiohttp.TCPConnector(ssl=context, limit=MOST_CALLS)

    @asynccontextmanager
    async def _session(self, connector: aiohttp.BaseConnector) -> AsyncIterator[aiohttp.ClientSession]:
        headers = {"Authorization": f"Bearer {self.record.token}", VERSION_HEADER: str(PROTOCOL)}
        try:
            async with aiohttp.ClientSession(connector=connector, headers=headers, auto_decompress=False) as http:
                yield http
        finally:
            self._http = None
            with contextlib.suppress(OSError):
                await connector.close()

    def _become(self, state: LinkState, why: str) -> None:
        why = "" if state is LinkState.UP else why
        if state is not self.state and state is LinkState.LOST and (self.told.draining or self.ending):
            log.info("conversation host %s, which was to end, is gone", self.name)
        elif state is not self.state:
            log.log(
                logging.INFO if state is LinkState.UP else logging.WARNING,
                "conversation host %s is %s%s",
                self.name,
                state.value,
                f": {why}" if why else "",
            )
        self.state, self.why = state, why
        (self._lost.set if state is LinkState.LOST else self._lost.clear)()
        self.changed()
