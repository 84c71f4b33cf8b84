"""The web server: the page, signalling, and what an operator asks for."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiortc import RTCIceServer

from thalweg import __version__
from thalweg.deploy.server.conversations import Hall, Refused, no_pipeline
from thalweg.deploy.server.exporter import exposition
from thalweg.deploy.server.session import Session, SessionOver
from thalweg.deploy.server.settings import ServerSettings
from thalweg.deploy.server.whip import play, publish, trickle
from thalweg.transports.webrtc import OfferError

log = logging.getLogger(__name__)

_PAGE_FILES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; media-src 'self' blob:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
ADDRESSES = 10_000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebServer:
    """The routes over a hall; `application` is what aiohttp runs."""

    def __init__(self, hall: Hall, settings: ServerSettings) -> None:
        self.hall = hall
        self.settings = settings
        self._asked: dict[str, tuple[float, float]] = {}
        self._ice = [
            RTCIceServer(urls=server.url, username=server.username or None, credential=server.credential or None)
            for server in settings.ice
        ]
        self.application = web.Application(
            middlewares=[self._guard], client_max_size=settings.offer_bytes, logger=logging.getLogger("thalweg.http")
        )
        self.application.add_routes(
            [
                web.get("/", self._page),
                web.get("/web/{name}", self._file),
                web.get("/config", self._config),
                web.post("/offer", self._offer),
                web.post("/whip", self._whip),
                web.post("/whep", self._whep),
                web.patch("/sessions/{id}", self._patch),
                web.delete("/sessions/{id}", self._delete),
                web.get("/healthz", self._health),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._metrics),
                web.get("/sessions", self._sessions),
            ]
        )

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refusals as JSON, security headers on everything, a limit on how often an address may ask."""
        try:
            self._limit(request)
            response = await handler(request)
        except Refused as refused:
            self.hall.counts[f"refused_{refused.code}"] += 1
            response = _refusal(refused.status, refused.code, str(refused))
            if refused.status in (429, 503):
                response.headers["Retry-After"] = "5"
        except OfferError as error:
            self.hall.counts["refused_offer"] += 1
            response = _refusal(422, "bad-offer", str(error))
        except web.HTTPRequestEntityTooLarge:
            self.hall.counts["refused_size"] += 1
            response = _refusal(413, "too-large", f"An offer has at most {self.settings.offer_bytes} bytes.")
        except web.HTTPException as error:
            response = _refusal(error.status, "http", error.reason)
        for name, value in _SECURITY.items():
            response.headers.setdefault(name, value)
        return response

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return _asset("index.html")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return _asset(request.match_info["name"])

    async def _config(self, request: web.Request) -> web.StreamResponse:
        """What the page needs to know before it connects."""
        spec = self.hall.spec
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
                "token": bool(self.settings.token),
                "iceServers": servers if self._authorized(request) else [],
                "resume_s": self.settings.resume_s,
                "version": __version__,
            }
        )

    async def _offer(self, request: web.Request) -> web.StreamResponse:
        """One offer, one answer: a new conversation, or with `session` and `key` the one that was cut off."""
        self._check(request)
        try:
            body = await request.json()
        except ValueError:
            raise Refused(400, "bad-request", "The offer is not JSON.") from None
        if not isinstance(body, dict) or not isinstance(body.get("sdp"), str) or not body["sdp"].strip():
            raise Refused(400, "bad-request", "Expected a JSON object with the offer in `sdp`.")
        session, answer = await self._connect(request, body["sdp"], body.get("session"), body.get("key"))
        return web.json_response({"sdp": answer, "type": "answer", "session": session.id, "key": session.key})

    async def _whip(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        return await publish(request, self._connect, self.settings.ice)

    async def _whep(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        return await play(request, self._connect, self.settings.ice)

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        return await trickle(request, self.hall.find(request.match_info["id"], request.query.get("key", "")))

    async def _connect(
        self, request: web.Request, sdp: str, session_id: Any = None, key: Any = None, *, listening: bool = False
    ) -> tuple[Session, str]:
        if session_id:
            session = self.hall.find(str(session_id), str(key))
            try:
                _, answer = await session.connect(sdp, self._ice, listening=listening)
            except SessionOver as over:
                raise Refused(404, "gone", str(over)) from None
            return session, answer
        if "m=audio" not in sdp:
            raise OfferError("the offer has no audio: send a description with an audio section, and Opus in it")
        session = await self.hall.enter(request.remote or "")
        try:
            _, answer = await session.connect(sdp, self._ice)
        except SessionOver:
            raise no_pipeline() from None
        except BaseException:
            self.hall.release(session)
            raise
        return session, answer

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        session = self.hall.find(request.match_info["id"], request.query.get("key", ""))
        session.end("hung-up", "The conversation was ended.")
        return web.Response(status=200)

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok", "version": __version__})

    async def _ready(self, request: web.Request) -> web.StreamResponse:
        hall = self.hall
        if hall.ready:
            return web.json_response({"status": "ready"})
        reason = "draining" if hall.draining else "the pipeline cannot be started" if hall.problem else "loading"
        return web.json_response({"status": "not ready", "reason": reason}, status=503)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=exposition(self.hall), content_type="text/plain", charset="utf-8")

    async def _sessions(self, request: web.Request) -> web.StreamResponse:
        """Who talks: for the operator, with the admin token."""
        given = _bearer(request)
        if not self.settings.admin_token or not hmac.compare_digest(given, self.settings.admin_token):
            raise Refused(403, "forbidden", "Only with the admin token.")
        return web.json_response({"sessions": [_describe(session) for session in self.hall.sessions.values()]})

    def _check(self, request: web.Request) -> None:
        """Token and origin of somebody who wants to connect. Raises Refused."""
        origin = request.headers.get("Origin")
        if origin and urlsplit(origin).netloc != request.host and origin not in self.settings.origins:
            raise Refused(403, "origin", f"Pages from {origin[:100]} may not connect here.")
        if not self._authorized(request):
            raise Refused(401, "token", "This server wants a token, and this is not it.")

    def _authorized(self, request: web.Request) -> bool:
        return not self.settings.token or hmac.compare_digest(_bearer(request), self.settings.token)

    def _limit(self, request: web.Request) -> None:
        """A token bucket per address. Raises Refused."""
        if request.method == "GET" and request.path in ("/healthz", "/readyz", "/metrics"):
            return
        rate, now, address = self.settings.requests_per_s, time.monotonic(), request.remote or ""
        if len(self._asked) > ADDRESSES:
            self._asked.clear()
        left, then = self._asked.get(address, (5 * rate, now))
        left = min(5 * rate, left + (now - then) * rate) - 1.0
        self._asked[address] = (max(left, 0.0), now)
        if left < 0.0:
            raise Refused(429, "too-often", "Too many requests from your address. Wait a moment.")


def _asset(name: str) -> web.Response:
    suffix = Path(name).suffix
    asset = files("thalweg.deploy").joinpath("web", name)
    if suffix not in _PAGE_FILES or "/" in name or not asset.is_file():
        raise web.HTTPNotFound
    return web.Response(body=asset.read_bytes(), content_type=_PAGE_FILES[suffix], charset="utf-8")


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _refusal(status: int, code: str, message: str) -> web.Response:
    return web.Response(
        status=status, text=json.dumps({"error": code, "message": message}), content_type="application/json"
    )


def _describe(session: Session) -> dict[str, Any]:
    worker = session.worker
    return {
        "id": session.id,
        "state": session.state.value,
        "age_s": round(session.age_s, 1),
        "turns": len(worker.turns.turns),
        "problems": worker.problem_count,
        "reconnects": session.reconnects,
        "gaps": session.call.playout.gaps,
        "lost_units": session.call.lost_units,
    }
