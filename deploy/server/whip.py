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

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import web

from thalweg.deploy.door.refused import Refused
from thalweg.deploy.server.session import Session
from thalweg.deploy.server.settings import IceServer
from thalweg.transports.webrtc import OfferError

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
MAX_CANDIDATES = 50
_UFRAG = re.compile(r"^a=ice-ufrag:(\S+)", re.MULTILINE)

Connect = Callable[..., Awaitable[tuple[Session, str]]]


async def publish(request: web.Request, connect: Connect, ice: tuple[IceServer, ...]) -> web.Response:
    """WHIP: 201 with the answer, where to end it, and the STUN and TURN servers as links.

    What was left out of the offer is said in `Warning`: a sender may have no data channel to be told by.
    """
    session, answer = await connect(request, await _offer(request))
    response = _created(session, answer, ice)
    for note in session.peer.notes if session.peer is not None else ():
        response.headers.add("Warning", f'299 thalweg "{note}"'.encode("ascii", "replace").decode())
    return response


async def play(request: web.Request, connect: Connect, ice: tuple[IceServer, ...]) -> web.Response:
    """WHEP: as WHIP, for who listens."""
    session_id, key = request.query.get("session"), request.query.get("key")
    session, answer = await connect(request, await _offer(request), session_id, key, listening=True)
    return _created(session, answer, ice)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate of a fragment; an empty `line` is the end of them."""

    line: str
    mid: str | None


async def trickle(request: web.Request, session: Session) -> web.Response:
    """PATCH: add what a fragment holds to the connection."""
    if request.content_type != FRAGMENT:
        raise Refused(415, "type", f"Expected a body of type {FRAGMENT}.")
    text = await request.text()
    peer = session.peer
    if peer is None:
        raise Refused(409, "no-connection", "There is no connection to add candidates to.")
    ufrag = _UFRAG.search(text)
    if ufrag is not None and peer.remote_ufrag and ufrag[1] != peer.remote_ufrag:
        raise Refused(422, "ice-restart", "ICE cannot be restarted in place: post a new offer to this conversation.")
    found = candidates_of(text)
    if len(found) + peer.candidates > MAX_CANDIDATES:
        raise Refused(429, "too-many", f"More than {MAX_CANDIDATES} candidates.")
    for candidate in found:
        await peer.add_candidate(candidate.line, candidate.mid, None)
    return web.Response(status=204)


def candidates_of(fragment: str) -> list[Candidate]:
    """The candidates of an RFC 8840 fragment, each with the media section it stands in."""
    found: list[Candidate] = []
    mid: str | None = None
    for line in fragment.splitlines():
        if line.startswith("m="):
            mid = None
        elif line.startswith("a=mid:"):
            mid = line.removeprefix("a=mid:").strip()
        elif line.startswith("a=candidate:"):
            found.append(Candidate(line.removeprefix("a=candidate:").strip(), mid or "0"))
        elif line.startswith("a=end-of-candidates"):
            found.append(Candidate("", mid))
    return found


async def _offer(request: web.Request) -> str:
    if request.content_type != SDP:
        raise Refused(415, "type", f"Expected a body of type {SDP}.")
    sdp = await request.text()
    if not sdp.strip():
        raise OfferError("the offer is empty")
    return sdp


def _created(session: Session, answer: str, ice: tuple[IceServer, ...]) -> web.Response:
    response = web.Response(status=201, text=answer, content_type=SDP)
    response.headers["Location"] = f"/sessions/{session.id}?key={quote(session.key)}"
    response.headers["ETag"] = f'"{session.id}"'
    response.headers["Accept-Patch"] = FRAGMENT
    for server in ice:
        link = f'<{server.url}>; rel="ice-server"'
        if server.username:
            link += f'; username="{server.username}"; credential="{server.credential}"; credential-type="password"'
        response.headers.add("Link", link)
    return response
