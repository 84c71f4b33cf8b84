"""Candidates that are found after the offer: RFC 8840 fragments."""

from __future__ import annotations

import re
from collections.abc import Sequence
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


async def add_fragment(peers: Sequence[Peer], text: str) -> None:
    """Add what a fragment holds to that connection of a conversation whose user name (a=ice-ufrag) it gives, or to the
    first where it gives none. Raises Refused, OfferError.
    """
    if not peers:
        raise Refused(409, "no-connection", "There is no connection to add candidates to.")
    ufrag = _UFRAG.search(text)
    peer = next((one for one in peers if ufrag is None or one.remote_ufrag == ufrag[1]), None)
    if peer is None:
        raise Refused(422, "ice-restart", "ICE cannot be restarted in place: post a new offer to this conversation.")
    found = candidates_of(text)
    if len(found) + peer.candidates > MAX_CANDIDATES:
        raise Refused(429, "too-many", f"More than {MAX_CANDIDATES} candidates.")
    for candidate in found:
        await peer.add_candidate(candidate.line, candidate.mid)


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
