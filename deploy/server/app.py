"""The web server: the page, signalling, and what an operator asks for."""

from __future__ import annotations

import logging
from importlib.resources import files
from pathlib import Path

from aiohttp import web

from thalweg import __version__
from thalweg.deploy.door.front_door import FrontDoor, Handler, bearer, from_here
from thalweg.deploy.door.refused import Refused
from thalweg.deploy.door.tokens import AccessTokens
from thalweg.deploy.server.observing import tracing
from thalweg.deploy.server.observing.exporter import told
from thalweg.deploy.server.service import Connected, ConnectRequest, ConversationService
from thalweg.deploy.server.settings import ServerSettings
from thalweg.deploy.server.whip import fragment_of, play, publish
from thalweg.transports.webrtc import OfferError, read_offer

log = logging.getLogger(__name__)

_PAGE_FILES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class WebServer:
    """The routes over a service; aiohttp runs `application`. Raises TokenError if a token file is invalid."""

    def __init__(self, service: ConversationService, settings: ServerSettings) -> None:
        self.service = service
        self.settings = settings
        self.door = FrontDoor(settings.door(), service.counts)
        self._tokens = AccessTokens(settings.token, settings.token_file)
        self._admin = AccessTokens(settings.admin_token, settings.admin_token_file)
        self.application = self.door.application(refuse_offers)
        self.application.add_routes(
            [
                web.get("/", self._page),
                web.get("/web/{name}", self._file),
                web.get("/config", self._config),
                web.post("/offer", self._offer),
                web.post("/whip", self._whip),
                web.post("/whep", self._whep),
                web.get("/sessions/{id}", self._stands),
                web.patch("/sessions/{id}", self._patch),
                web.delete("/sessions/{id}", self._delete),
                web.get("/healthz", self._health),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._metrics),
                web.get("/sessions", self._sessions),
                web.get("/hosts", self._hosts),
                web.post("/hosts/{name}/drain", self._drain),
            ]
        )

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return _asset("index.html")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return _asset(request.match_info["name"])

    async def _config(self, request: web.Request) -> web.StreamResponse:
        """The configuration that the page needs before it connects."""
        spec = self.service.spec
        servers = [
            {"urls": server.url, "username": server.username, "credential": server.credential}
            if server.username
            else {"urls": server.url}
            for server in self.settings.ice
        ]
        return web.json_response(
            {
                "name": spec.graph.name,
                "description": spec.description,
                "video": any(vertex.info.use == "live.camera" for vertex in spec.graph.stages.values()),
                "stages": [{"name": name, "feeds": list(spec.graph.successors(name))} for name in spec.graph.stages],
                "token": self._tokens.wanted,
                "keeps": [{"stage": name, "what": what} for name, what in spec.kept.items()],
                "keepsNothing": spec.keeps_nothing,
                "preferences": [preference.plain() for preference in spec.preferences.values()],
                "iceServers": servers if self._authorized(request) else [],
                "resume_s": self.settings.resume_s,
                "version": __version__,
            }
        )

    async def _offer(self, request: web.Request) -> web.StreamResponse:
        """Answer one offer: a new conversation, or with `session` and `key` the one to resume."""
        self._check(request)
        try:
            body = await request.json()
        except (ValueError, RecursionError):
            raise Refused(400, "bad-request", "The offer is not JSON.") from None
        if not isinstance(body, dict) or not isinstance(body.get("sdp"), str) or not body["sdp"].strip():
            raise Refused(400, "bad-request", "Expected a JSON object with the offer in `sdp`.")
        if not all(isinstance(body.get(name, ""), str) for name in ("session", "key")):
            raise Refused(400, "bad-request", "Expected texts in `session` and `key`.")
        found = await self._connect(request, body["sdp"], body.get("session"), body.get("key"))
        names = {"session": found.session, "key": found.key, "resume_s": self.settings.resume_s}
        return web.json_response({"sdp": found.sdp, "type": "answer"} | names)

    async def _whip(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        return await publish(request, self._connect, self.settings.ice)

    async def _whep(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        return await play(request, self._connect, self.settings.ice)

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        await self.service.trickle(*_named(request), await fragment_of(request))
        return web.Response(status=204)

    async def _connect(
        self,
        request: web.Request,
        sdp: str,
        session_id: str | None = None,
        key: str | None = None,
        *,
        listening: bool = False,
    ) -> Connected:
        """Check the offer, then resume the client's session or open a new one.

        Raises Refused and OfferError.
        """
        coming = ConnectRequest(
            offer=read_offer(sdp),
            sdp=sdp,
            address=self.door.address(request),
            session=session_id or "",
            key=key or "",
            listening=listening,
        )
        with tracing.span("offer", {"thalweg.pipeline": self.service.spec.graph.name}) as more:
            found = await self.service.connect(coming)
            more |= {"thalweg.session": found.session} | ({"thalweg.was": session_id} if session_id else {})
        return found

    async def _stands(self, request: web.Request) -> web.StreamResponse:
        """For a page that receives nothing any more: whether to wait or to reconnect."""
        self._check(request)
        return web.json_response({"stands": await self.service.stands(*_named(request))})

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        await self.service.end(*_named(request))
        return web.Response(status=200)

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok", "version": __version__})

    async def _ready(self, request: web.Request) -> web.StreamResponse:
        reason = self.service.not_ready
        if not reason:
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "not ready", "reason": reason}, status=503)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        """For the operator: with the admin token where there is one, else from this machine only."""
        if self._admin.wanted or not from_here(request):
            self._check_admin(request)
        return told(*await self.service.metrics(request.headers.get("Accept", "")))

    async def _sessions(self, request: web.Request) -> web.StreamResponse:
        """The conversations: for the operator, with the admin token."""
        self._check_admin(request)
        return web.json_response({"sessions": await self.service.sessions()})

    async def _hosts(self, request: web.Request) -> web.StreamResponse:
        """The conversation hosts: for the operator, with the admin token."""
        self._check_admin(request)
        return web.json_response({"hosts": await self.service.hosts()})

    async def _drain(self, request: web.Request) -> web.StreamResponse:
        """Drain a host: for the operator, with the admin token."""
        self._check_admin(request)
        return web.json_response(dict(await self.service.drain_host(request.match_info["name"])))

    def _check_admin(self, request: web.Request) -> None:
        """Raises Refused."""
        if not self._admin.wanted or not self._admin.open(bearer(request)):
            raise Refused(403, "forbidden", "Only with the admin token.")

    def _check(self, request: web.Request) -> None:
        """Check the token of a client that connects. Raises Refused."""
        if not self._authorized(request):
            raise Refused(401, "token", "This server wants a token, and this is not it.")

    def _authorized(self, request: web.Request) -> bool:
        return not self._tokens.wanted or self._tokens.open(bearer(request))


@web.middleware
async def refuse_offers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn OfferError into a refusal."""
    try:
        return await handler(request)
    except OfferError as error:
        raise Refused(422, "bad-offer", str(error), kind="offer") from None


def _asset(name: str) -> web.Response:
    suffix = Path(name).suffix
    found = {asset.name: asset for asset in files("thalweg.deploy").joinpath("web").iterdir()}
    asset = found.get(name)
    if asset is None or suffix not in _PAGE_FILES:
        raise web.HTTPNotFound
    return web.Response(body=asset.read_bytes(), content_type=_PAGE_FILES[suffix], charset="utf-8")


def _named(request: web.Request) -> tuple[str, str]:
    """Id and key of the conversation that a request names."""
    return request.match_info["id"], request.query.get("key", "")
