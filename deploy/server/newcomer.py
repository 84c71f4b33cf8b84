"""Somebody whose offer was answered and who is not connected yet: a connection without a pipeline.

state      event                              next
WAITING    the data channel opened            ARRIVING   a pipeline is taken, and the connection passes to its session
WAITING    gives way, hangs up, or too late:  GONE
           `connect_s`, where places are
           scarce and there is no path (ICE)
           `PRESSED_S` (conversations.py)
ARRIVING   there is a pipeline                GONE       a session has its connection, id and key
ARRIVING   there is none                      GONE       they are told why

So an offer to which no connection comes costs no pipeline, which would be a hundred times as much. What is said until
there is one is not heard; controls are kept and passed on.
"""

from __future__ import annotations

import resource
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from aiortc import RTCIceServer

from thalweg.deploy.server.admission import Returns
from thalweg.deploy.server.snapshot import Snapshot, session_id
from thalweg.pipeline.dialogue.events import Control
from thalweg.pipeline.errors import ThalwegError
from thalweg.transports.webrtc import Call, Offer, Peer

KEPT_CONTROLS = 100
MOST = 128
SOCKETS = 4


def most_newcomers() -> int:
    """How many may be connecting at a server that is told nothing else: `MOST`, or what a quarter of the descriptors is
    enough for where each takes `SOCKETS`, one for each address of this machine.
    """
    return max(8, min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4 // SOCKETS))


class SessionOver(ThalwegError):
    """The conversation ended while a visitor was connecting to it."""


async def answered(
    call: Call, offer: str | Offer, ice: Sequence[RTCIceServer], stands: Callable[[], bool]
) -> tuple[Peer, str]:
    """A connection of `call`, and the answer to an offer. Raises OfferError, and SessionOver unless the conversation
    still `stands` when the answer is there.
    """
    peer = Peer(call, ice)
    try:
        answer = await peer.answer(offer)
        if not stands():
            raise SessionOver("That conversation has ended. Start a new one.")
    except BaseException:
        await peer.close()
        raise
    return peer, answer


class NewcomerState(Enum):
    """See the table above."""

    WAITING = "waiting"
    ARRIVING = "arriving"
    GONE = "gone"


TRANSITIONS: Mapping[NewcomerState, frozenset[NewcomerState]] = {
    NewcomerState.WAITING: frozenset({NewcomerState.ARRIVING, NewcomerState.GONE}),
    NewcomerState.ARRIVING: frozenset({NewcomerState.GONE}),
    NewcomerState.GONE: frozenset(),
}
"""The table above as data: state → possible next states."""


class Newcomer:
    """`id`, `key`: what the conversation will be known by. `on_change`: told `open` and `expelled`; `on_end`: why they
    hung up, as a code. `call`: stands in for that of a session.
    """

    def __init__(self, address: str, host: str = "") -> None:
        self.id = session_id(host)
        self.key = secrets.token_urlsafe(18)
        self.address = address
        self.state = NewcomerState.WAITING
        self.peer: Peer | None = None
        self.listener: Peer | None = None
        self.returns = Returns()
        self.call = Call()
        self.controls: deque[Control] = deque(maxlen=KEPT_CONTROLS)
        self.call.on_control = self.call.on_prefer = self.controls.append
        self.traceparent = ""
        self.on_change: Callable[[str], None] = lambda state: None
        self.on_end: Callable[[str], None] = lambda code: None
        self._began_s = time.monotonic()

    @property
    def since_s(self) -> float:
        """Seconds since they came."""
        return time.monotonic() - self._began_s

    @property
    def reached(self) -> bool:
        """Whether there is a path between the two sides (ICE)."""
        return self.peer is not None and self.peer.reached

    async def connect(self, offer: Offer, ice: Sequence[RTCIceServer], *, listening: bool = False) -> tuple[Peer, str]:
        """Answer an offer. A connection that is there is replaced, but by a `listening` one, which is added.

        Raises OfferError, SessionOver.
        """
        peer, answer = await answered(self.call, offer, ice, lambda: self.state is not NewcomerState.GONE)
        if listening and self.peer is not None:
            before, self.listener = self.listener, peer
        else:
            before, self.peer = self.peer, peer
        peer.on_state = lambda state: self._peer_changed(peer, state)
        if before is not None:
            await before.close()
        return peer, answer

    def end(self, code: str, message: str) -> None:
        """They hang up."""
        self.on_end(code)

    def belongs_to(self, traceparent: str) -> None:
        """Turns will be part of that trace."""
        self.traceparent = traceparent

    async def snapshot(self) -> Snapshot:
        """Nothing was said yet."""
        return Snapshot(epoch=0)

    def become(self, state: NewcomerState) -> bool:
        """Change the state where the table lets it; whether it did."""
        possible = state in TRANSITIONS[self.state]
        if possible:
            self.state = state
        return possible

    async def close(self) -> None:
        """Close the connections, after what was told has been sent. Idempotent."""
        for peer in (self.peer, self.listener):
            if peer is not None:
                await peer.close()

    def _peer_changed(self, peer: Peer, state: str) -> None:
        if state == "expelled" or (state == "open" and peer is self.peer):
            self.on_change(state)
