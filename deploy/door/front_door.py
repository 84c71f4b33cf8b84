"""What every request passes, in this order: address, rate, host, origin, body; then the server's own handler.

Every exception on the way becomes a JSON refusal with the headers of every response: `Refused` as it says, aiohttp's
own by their status, bytes that are not text 400, anything else 500 without details; those are logged. The whole body is
read before the handler runs, so that a slow client cannot hold a handler up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from thalweg.deploy.door.addresses import Network, forwarded, trusted, who
from thalweg.deploy.door.doorkeeper import BARRED_S, Doorkeeper, DoorLimits
from thalweg.deploy.door.names import Names
from thalweg.deploy.door.refused import Refused, dressed, of_http, refusal

log = logging.getLogger(__name__)

BODY_S = 10.0
SAY_S = 10.0
_CHARSETS = (None, "utf-8", "utf8", "us-ascii")
_READ = "Location, Link, ETag, Accept-Patch, Accept-Post, Retry-After"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorSettings:
    """`host_names`, `origins`: see `names.py`; `proxies`: see `addresses.py`; `body_s`: longest wait for a body.

    `body_bytes`: the largest body; `known_body_bytes`: the largest of an authorised client; 0: the same. `unmetered`:
    paths of health checks, which have a bucket of their own, so that a limit is never mistaken for a failure.
    """

    limits: DoorLimits = field(default_factory=DoorLimits)
    host_names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    proxies: tuple[Network, ...] = ()
    body_s: float = BODY_S
    body_bytes: int = 64_000
    known_body_bytes: int = 0
    unmetered: tuple[str, ...] = ("/healthz", "/readyz")


class FrontDoor:
    """One server's. `application` makes what aiohttp runs; `listening.py` opens it to the network.

    `counts`: takes what is refused, by kind. `knows`: whether a client may send `known_body_bytes`, asked before any of
    the body is kept. Raises WrongName where a host name or an origin of the settings is invalid.
    """

    def __init__(
        self,
        settings: DoorSettings,
        counts: Counter[str] | None = None,
        now_s: Callable[[], float] = time.monotonic,
        knows: Callable[[web.Request], bool] = lambda request: False,
    ) -> None:
        self.settings = settings
        self._knows = knows
        self.keeper = Doorkeeper(settings.limits, counts)
        self.names = Names(settings.host_names, settings.origins)
        self.now_s = now_s
        self._said_s: dict[str, float] = {}

    def application(self, *behind: Any) -> web.Application:  # Any: aiohttp's middlewares have changing types
        """An application behind this door, for routes to be added to; middlewares of its own come after it."""
        return web.Application(
            middlewares=[self.middleware, *behind],
            client_max_size=max(self.settings.body_bytes, self.settings.known_body_bytes),
            logger=logging.getLogger("thalweg.http"),
        )

    def address(self, request: web.Request) -> str:
        """The client address of a request, as limits count it."""
        said = ",".join(request.headers.getall("X-Forwarded-For", ()))
        return forwarded(request.remote or "", said, self.settings.proxies)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """See the head of this file."""
        response = await self._answer(request, handler)
        if not response.prepared:
            dressed(response)
            self._share(request, response)
            if response.status == 401:  # so that the next guess costs a connection
                response.force_close()
            address = self.address(request)
            if self.keeper.barred(address, self.now_s()):
                response.force_close()
                self.say(
                    "barred",
                    f"{address} asks too often and is not listened to for {BARRED_S:g} s; "
                    "if it is a proxy of yours, name it with --trusted-proxy",
                )
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check(request)
            if request.method == "OPTIONS":
                return self._options(request)
            await self._read(request)
            return await handler(request)
        except Refused as refused:
            self.keeper.counts[f"refused_{refused.kind}"] += 1
            return refusal(refused.status, refused.code, str(refused))
        except web.HTTPRequestEntityTooLarge:
            self.keeper.counts["refused_size"] += 1
            return refusal(413, "too-large", f"A request has at most {self._most(request)} bytes here.")
        except web.HTTPException as error:
            return of_http(error)
        except UnicodeDecodeError:
            return refusal(400, "bad-request", "The body is not text in UTF-8.")
        except (ConnectionError, web.RequestPayloadError):
            return refusal(400, "bad-request", "The body is not what its headers say.")
        except Exception as error:
            self.keeper.counts["failures"] += 1
            self.say(f"{type(error).__name__}", f"{request.method} of a route failed: {_where(error)}", error)
            return refusal(500, "internal", "Something went wrong on this side. The server's log says what.")

    def say(self, kind: str, message: str, error: BaseException | None = None) -> None:
        """Log each kind once in ten seconds, so that requests cannot fill the disk."""
        now_s = self.now_s()
        if now_s - self._said_s.get(kind, -float("inf")) >= SAY_S:
            if len(self._said_s) > 100:
                self._said_s.clear()
            self._said_s[kind] = now_s
            log.error("%s", message)
            log.debug("it raised", exc_info=error)

    def _check(self, request: web.Request) -> None:
        """Rate, host and origin. Raises Refused."""
        address = self.address(request)
        if request.path in self.settings.unmetered:
            address += " health"
        self.keeper.admit(address, self.now_s())
        # RFC 9112, section 3.2: several Host headers are ambiguous
        if len(request.headers.getall("Host", [])) > 1:
            raise Refused(400, "bad-request", "A request has one Host.")
        if not self.names.knows(_asked_host(request), self.reached(request)):
            raise Refused(
                421,
                "host",
                "This server does not answer to that name. Its operator can add it to THALWEG_HOST_NAME.",
            )
        origin = request.headers.get("Origin")
        if origin is not None and not self._may(request, origin):
            raise Refused(403, "origin", "Pages of that origin may not ask here. The operator can add --origin.")

    def _may(self, request: web.Request, origin: str) -> bool:
        return self.names.listed(origin) or self.names.same(origin, self._scheme(request), _asked_host(request))

    def _scheme(self, request: web.Request) -> str:
        said = request.headers.get("X-Forwarded-Proto", "").strip().lower()
        if said in ("http", "https") and trusted(request.remote or "", self.settings.proxies):
            return said
        return request.scheme

    @staticmethod
    def reached(request: web.Request) -> str:
        """The address of ours that a request came to."""
        transport = request.transport
        name = transport.get_extra_info("sockname") if transport is not None else None
        return str(name[0]) if isinstance(name, tuple) else ""

    async def _read(self, request: web.Request) -> None:
        """Have the whole body here, in time and within its size. Raises Refused, HTTPRequestEntityTooLarge."""
        if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise Refused(415, "encoding", "Bodies are taken as they are, not compressed.")
        if (request.charset or "utf-8").lower() not in _CHARSETS:
            raise Refused(415, "charset", "Text is taken in UTF-8 only.")
        self._measure(request)
        try:
            async with asyncio.timeout(self.settings.body_s):
                await request.read()
        except TimeoutError:
            raise Refused(408, "slow", f"The body did not come within {self.settings.body_s:g} s.") from None

    def _measure(self, request: web.Request) -> None:
        """Of a stranger where others may send more: the size must be said, and be right. Raises HTTPException."""
        if not self.settings.known_body_bytes or not request.body_exists or self._knows(request):
            return
        if request.content_length is None or request.content_length > self.settings.body_bytes:
            raise web.HTTPRequestEntityTooLarge(self.settings.body_bytes, request.content_length or 0)

    def _most(self, request: web.Request) -> int:
        known = self.settings.known_body_bytes
        return known if known and self._knows(request) else self.settings.body_bytes

    def _options(self, request: web.Request) -> web.StreamResponse:
        """What a browser asks before it lets a page of another origin ask (CORS), and what WHIP clients may ask."""
        response = web.Response(status=204)
        response.headers["Allow"] = "GET, HEAD, POST, PATCH, DELETE, OPTIONS"
        if request.path in ("/whip", "/whep"):
            response.headers["Accept-Post"] = "application/sdp"
        return response

    def _share(self, request: web.Request, response: web.StreamResponse) -> None:
        """Let pages of the origins that were named read it."""
        if not self.names.origins:
            return
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin", "")
        if not self.names.listed(origin):
            return
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = _READ
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, PATCH, DELETE"
            response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, If-Match"
            response.headers["Access-Control-Max-Age"] = "600"
            if "Access-Control-Request-Private-Network" in request.headers:
                response.headers["Access-Control-Allow-Private-Network"] = "true"


def left_behind(door: FrontDoor, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log the error of a task that is not awaited: tasks of aiortc raise when a stranger's connection fails."""
    error = context.get("exception")
    kind = type(error).__name__ if error is not None else "no exception"
    door.keeper.counts["left_errors"] += 1
    door.say(f"left {kind}", f"{context.get('message', 'an error on the loop')}: {kind}", error)


def from_here(request: web.Request) -> bool:
    """Whether a request comes from this machine and was not forwarded by a proxy."""
    if any(name in request.headers for name in ("X-Forwarded-For", "Forwarded", "Via")):
        return False
    peer, reached = who(request.remote or ""), who(FrontDoor.reached(request))
    return bool(peer) and (peer == reached or peer in ("127.0.0.1", who("::1")))


def bearer(request: web.Request) -> str:
    """The token that a request carries; empty where there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _asked_host(request: web.Request) -> str:
    """The host that a request names: an absolute URL takes precedence over `Host` (RFC 9112, section 3.2.2)."""
    if request.raw_path.startswith("/") or "://" not in request.raw_path:
        return request.headers.get("Host", "")
    return request.raw_path.partition("://")[2].partition("/")[0].partition("?")[0]


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__}{place}"
