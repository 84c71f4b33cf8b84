"""Candidates that are found after the offer: RFC 8840 fragments."""

from __future__ import annotations

import re
from dataclasses import dataclass

from thalweg.deploy.door.refused import Refused
from thalweg.transports.webrtc import Peer

MAX_CANDIDATES = 50
_UFRAG = re.compile(r"^a=ice-ufrag:(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate of a fragment; an empty `line` is the end of them."""

    line: str
    mid: str | None


async def add_fragment(peer: Peer | None, text: str) -> None:
    """Add what a fragment holds to a connection. Raises Refused, OfferError."""
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
