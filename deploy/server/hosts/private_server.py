"""The side of a conversation host that fronts see: the calls of a front, each with the host's token.

    POST /news        {boot, since, pipeline}                              → `News`, as soon as there is any
    POST /connect     {sdp, address, session, key, listening, snapshot, was, stay}
                                                                           → {session, key, sdp, notes}
    POST /trickle     {session, key, fragment}
    POST /end         {session, key, moved}
    POST /snapshot    {session, key}                                       → {snapshot}, and questions are held back
    POST /stay        {session, key}                                       it is not moved: they are answered
    POST /drain       {ends, instead}                                      → {held, within_s}
    POST /sessions, /metrics, /stop                                        → for the operator

A client without the token learns nothing else. A refusal is `{error, message}` with its status, as on the public side;
the front passes it on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thalweg.deploy.door.doorkeeper import DoorLimits
from thalweg.deploy.door.front_door import DoorSettings, FrontDoor, Handler, bearer
from thalweg.deploy.door.refused import Refused
from thalweg.deploy.door.tokens import same_secret
from thalweg.deploy.server.hosts.moving import Moving
from thalweg.deploy.server.hosts.news import NewsFeed
from thalweg.deploy.server.hosts.record import PROTOCOL
from thalweg.deploy.server.observing import tracing
from thalweg.deploy.server.service import Connected, ConnectRequest, LocalConversations
from thalweg.deploy.server.session import MOVED
from thalweg.deploy.server.snapshot import MOST_BYTES, Snapshot
from thalweg.transports.webrtc import OfferError, read_offer

BODY_BYTES = 4 * MOST_BYTES
STRANGERS_BYTES = 1_000
MOVING = "moving"
OWN_S = 3.0
"""A front asks at least twice a second: one of this pipeline file that has not for so long is gone."""
VERSION_HEADER = "X-Thalweg-Protocol"
LIMITS = DoorLimits(connections=512, per_address=512, requests_per_s=2000.0, total_per_s=8000.0, connects_per_s=50.0)
"""A front keeps its connections, of which it has `MOST_CALLS` at most; a stranger has one for each answer."""
A = TypeVar("A", bound=BaseModel)


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AskNews(_Asked):
    """See the head of this file; so are the others."""

    boot: str = Field(default="", max_length=40)
    since: int = -1
    pipeline: str = Field(default="", max_length=100)


class AskConnect(_Asked):
    """`snapshot`, `was`: a conversation of another host is to go on here, with the key it had.

    `stay`: a visitor who reconnects stays here although the host is being drained: no other has room.
    """

    sdp: str = Field(max_length=MOST_BYTES)
    address: str = Field(max_length=100)
    session: str = Field(default="", max_length=100)
    key: str = Field(default="", max_length=100)
    listening: bool = False
    snapshot: dict[str, Any] | None = None
    was: str = Field(default="", max_length=100)
    stay: bool = False


class AskSession(_Asked):
    """About one conversation. `moved`: it goes on elsewhere, so no goodbye is sent."""

    session: str = Field(max_length=100)
    key: str = Field(max_length=100)
    moved: bool = False
    fragment: str = Field(default="", max_length=MOST_BYTES)


class AskDrain(_Asked):
    """`ends`: the host ends once it is empty. `instead`: asked by a front of another pipeline file, which waits until
    the fronts of this one are gone: two at the same time would drain each other's hosts indefinitely.
    """

    ends: bool = False
    instead: bool = False


class PrivateServer:
    """The routes over the conversations of this process; `application` is what aiohttp runs. `pipeline`: its digest."""

    def __init__(
        self,
        service: LocalConversations,
        news_feed: NewsFeed,
        moving: Moving,
        token: str,
        pipeline: str,
        stop: Callable[[], None],
    ) -> None:
        self._service = service
        self._news_feed = news_feed
        self._moving = moving
        self._token = token
        self._pipeline = pipeline
        self._own_s = time.monotonic()
        self._end_all = stop
        settings = DoorSettings(limits=LIMITS, body_bytes=STRANGERS_BYTES, known_body_bytes=BODY_BYTES)
        self.door = FrontDoor(settings, service.counts, knows=self._knows)
        self.application = self.door.application(self._guard)
        routes = {
            "/news": self._news,
            "/connect": self._connect,
            "/trickle": self._trickle,
            "/end": self._end,
            "/snapshot": self._snapshot,
            "/stay": self._stay,
            "/sessions": self._sessions,
            "/metrics": self._metrics,
            "/drain": self._drain,
            "/stop": self._stop,
        }
        self.application.add_routes([web.post(path, handler) for path, handler in routes.items()])

    def _knows(self, request: web.Request) -> bool:
        return same_secret(bearer(request), self._token)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._knows(request):
            raise Refused(401, "token", "This is for fronts, which know its token.")
        asked = request.headers.get(VERSION_HEADER, "")
        if asked != str(PROTOCOL):
            raise Refused(426, "version", f"This host speaks version {PROTOCOL} of the protocol of fronts and hosts.")
        try:
            return await handler(request)
        except OfferError as error:
            raise Refused(422, "bad-offer", str(error), kind="offer") from None

    async def _news(self, request: web.Request) -> web.StreamResponse:
        asked = await _read(request, AskNews)
        if asked.pipeline == self._pipeline:
            self._own_s = time.monotonic()
        news = await self._news_feed.next(asked.boot, asked.since)
        return web.json_response(news.model_dump())  # which takes halves of surrogate pairs, as a model may say them

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        asked = await _read(request, AskConnect)
        with tracing.span("connect", {}, request.headers.get(tracing.HEADER, "")) as more:
            found = await self._connected(asked)
            more["thalweg.session"] = found.session
        return web.json_response(
            {"session": found.session, "key": found.key, "sdp": found.sdp, "notes": list(found.notes)}
        )

    async def _connected(self, asked: AskConnect) -> Connected:
        snapshot = None if asked.snapshot is None else Snapshot.read(asked.snapshot)
        if asked.session and snapshot is None and not asked.stay and self._service.conversations.draining:
            raise Refused(409, MOVING, "This host is being emptied: put the conversation on another one.")
        coming = ConnectRequest(
            offer=read_offer(asked.sdp),
            sdp=asked.sdp,
            address=asked.address,
            session=asked.session,
            key=asked.key,
            listening=asked.listening,
        )
        found = await self._service.connect(coming, snapshot)
        if snapshot is not None:
            self._news_feed.moved(found.session, asked.was)
        return found

    async def _trickle(self, request: web.Request) -> web.StreamResponse:
        asked = await _read(request, AskSession)
        await self._service.trickle(asked.session, asked.key, asked.fragment)
        return web.json_response({})

    async def _end(self, request: web.Request) -> web.StreamResponse:
        asked = await _read(request, AskSession)
        if asked.moved:
            self._service.conversations.find(asked.session, asked.key).end(MOVED, "It goes on elsewhere.")
        else:
            await self._service.end(asked.session, asked.key)
        return web.json_response({})

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        asked = await _read(request, AskSession)
        session = self._service.conversations.find(asked.session, asked.key)
        session.call.leaves()
        return web.json_response({"snapshot": (await session.snapshot()).model_dump()})

    async def _stay(self, request: web.Request) -> web.StreamResponse:
        asked = await _read(request, AskSession)
        self._service.conversations.find(asked.session, asked.key).call.stays()
        return web.json_response({})

    async def _sessions(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"sessions": await self._service.sessions()})

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        body, _ = await self._service.metrics("")
        return web.json_response({"text": body.decode()})

    async def _drain(self, request: web.Request) -> web.StreamResponse:
        asked = await _read(request, AskDrain)
        if asked.instead and time.monotonic() - self._own_s < OWN_S:
            raise Refused(409, "in-use", "Fronts of the pipeline file that this host serves are there.")
        self._moving.begin(ends=asked.ends)
        return web.json_response({"held": self._news_feed.state().held, "within_s": self._moving.within_s})

    async def _stop(self, request: web.Request) -> web.StreamResponse:
        self._end_all()
        return web.json_response({})


async def _read(request: web.Request, kind: type[A]) -> A:
    """The body as one of these. Raises Refused, without saying what stands in it."""
    try:
        return kind.model_validate(json.loads(await request.text() or "{}"))
    except ValidationError as error:
        where = ".".join(map(str, error.errors(include_input=False, include_url=False)[0]["loc"])) or "body"
        raise Refused(400, "bad-request", f"{where} is not as expected.") from None
    except (ValueError, RecursionError):
        raise Refused(400, "bad-request", "The body is not JSON.") from None
