"""WHIP and WHEP: signalling for any client, by one POST (RFC 9725, draft-ietf-wish-whep).

    POST   /whip           an offer that sends; a new conversation
    POST   /whep           an offer that receives; with ?session=…&key=… beside the one that sends, else a conversation
                           of its own
    PATCH  /sessions/{id}  candidates found later (RFC 8840 fragments)
    DELETE /sessions/{id}  the end

The address in `Location` holds the key of the conversation: who knows it may end or resume it. ICE is not restarted on
a running connection, as aiortc cannot; a fragment that asks for it is refused with 422, as RFC 9725 §4.3.2 allows,
and the client posts a new offer to the same conversation instead, which keeps everything that was said.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from aiohttp import web

from thalweg.deploy.door.refused import Refused
from thalweg.deploy.server.service import Connected
from thalweg.deploy.server.settings import IceServer
from thalweg.transports.webrtc import OfferError

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"

Connect = Callable[..., Awaitable[Connected]]


async def publish(request: web.Request, connect: Connect, ice: tuple[IceServer, ...]) -> web.Response:
    """WHIP: 201 with the answer, where to end it, and the STUN and TURN servers as links.

    What was left out of the offer is said in `Warning`: a client may have no data channel to be told by.
    """
    return _created(await connect(request, await _offer(request)), ice)


async def play(request: web.Request, connect: Connect, ice: tuple[IceServer, ...]) -> web.Response:
    """WHEP: as WHIP, for who listens."""
    session_id, key = request.query.get("session"), request.query.get("key")
    return _created(await connect(request, await _offer(request), session_id, key, listening=True), ice)


async def fragment_of(request: web.Request) -> str:
    """What a PATCH brings. Raises Refused where that is no fragment."""
    if request.content_type != FRAGMENT:
        raise Refused(415, "type", f"Expected a body of type {FRAGMENT}.")
    return await request.text()


async def _offer(request: web.Request) -> str:
    if request.content_type != SDP:
        raise Refused(415, "type", f"Expected a body of type {SDP}.")
    sdp = await request.text()
    if not sdp.strip():
        raise OfferError("the offer is empty")
    return sdp


def _created(connected: Connected, ice: tuple[IceServer, ...]) -> web.Response:
    response = web.Response(status=201, text=connected.sdp, content_type=SDP)
    response.headers["Location"] = f"/sessions/{connected.session}?key={quote(connected.key)}"
    response.headers["ETag"] = f'"{connected.session}"'
    response.headers["Accept-Patch"] = FRAGMENT
    for server in ice:
        link = f'<{server.url}>; rel="ice-server"'
        if server.username:
            link += f'; username="{server.username}"; credential="{server.credential}"; credential-type="password"'
        response.headers.add("Link", link)
    for note in connected.notes:
        response.headers.add("Warning", f'299 thalweg "{note}"'.encode("ascii", "replace").decode())
    return response
