"""What holds the conversations behind a web server: this process, or hosts elsewhere (`hosts/front.py`)."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiortc import RTCIceServer

from thalweg.deploy.door.refused import Refused
from thalweg.deploy.ops.observing.families import encoded
from thalweg.deploy.server.admission import crowded
from thalweg.deploy.server.conversations import Conversations, gone
from thalweg.deploy.server.newcomer import Newcomer, SessionOver
from thalweg.deploy.server.observing import tracing
from thalweg.deploy.server.observing.exporter import families
from thalweg.deploy.server.pipelines import no_pipeline
from thalweg.deploy.server.session import Session, SessionState
from thalweg.deploy.server.settings import ServerSettings
from thalweg.deploy.server.snapshot import Snapshot
from thalweg.deploy.server.trickle import add_fragment
from thalweg.pipeline.file.spec import Spec
from thalweg.pipeline.observing.quantile import quantile
from thalweg.transports.webrtc import Offer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """An answered offer. `key` ends or resumes the conversation; `notes`: what was left out of it, for people."""

    session: str
    key: str
    sdp: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectRequest:
    """An offer from `address`. `session`, `key`: resume that conversation. `listening`: only listen to it."""

    offer: Offer
    sdp: str
    address: str
    session: str = ""
    key: str = ""
    listening: bool = False


class ConversationService(Protocol):
    """All of these raise Refused where they are not to be done. `counts`: what happened, by kind."""

    spec: Spec
    counts: Counter[str]

    @property
    def not_ready(self) -> str:
        """Why the next person would not be answered at once; empty where they would."""
        ...

    async def connect(self, coming: ConnectRequest) -> Connected:
        """Open a conversation for a visitor, or resume theirs. Raises Refused, OfferError."""
        ...

    async def trickle(self, session: str, key: str, fragment: str) -> None:
        """Candidates found later (RFC 8840). Raises OfferError, too."""
        ...

    async def end(self, session: str, key: str) -> None:
        """The person hangs up."""
        ...

    async def stands(self, session: str, key: str) -> bool:
        """Whether a conversation is still where its connection leads to, and that is not lost as seen from there; if
        not, connecting anew brings it back.
        """
        ...

    async def sessions(self) -> list[dict[str, Any]]:
        """Who talks, for the operator."""
        ...

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """For Prometheus, in the format that is asked for, with its content type."""
        ...

    async def hosts(self) -> list[dict[str, Any]]:
        """The conversation hosts, for the operator; none where there is only this process."""
        ...

    async def drain_host(self, name: str) -> Mapping[str, Any]:
        """Admit no new conversation at a host, and move those on it elsewhere."""
        ...


class LocalConversations:
    """A `ConversationService` in this process."""

    def __init__(self, conversations: Conversations, settings: ServerSettings) -> None:
        self.conversations = conversations
        self.spec = conversations.spec
        self.counts = conversations.counts
        self._ice = [
            RTCIceServer(urls=server.url, username=server.username or None, credential=server.credential or None)
            for server in settings.ice
        ]

    @property
    def not_ready(self) -> str:
        """See `ConversationService.not_ready`."""
        if self.conversations.draining:
            return "draining"
        if self.conversations.ready or self.conversations.full:  # a full one is busy, as any other
            return ""
        return "the pipeline cannot be started" if self.conversations.problem else "loading"

    async def connect(self, coming: ConnectRequest, snapshot: Snapshot | None = None) -> Connected:
        """See `ConversationService.connect`. `snapshot`: of a conversation of another host, which goes on here with the
        key it had.
        """
        for note in coming.offer.notes:
            log.info("an offer was answered in part: %s", note)
        if snapshot is not None:
            return await self._go_on(snapshot, coming)
        if coming.session:
            return await self._resume(coming)
        newcomer = self.conversations.welcome(coming.address)
        try:
            newcomer.belongs_to(tracing.current())
            peer, sdp = await newcomer.connect(coming.offer, self._ice)
        except SessionOver:
            raise crowded() from None
        except BaseException:
            self.conversations.dismiss(newcomer)
            raise
        return Connected(session=newcomer.id, key=newcomer.key, sdp=sdp, notes=peer.notes)

    async def _go_on(self, snapshot: Snapshot, coming: ConnectRequest) -> Connected:
        session = await self.conversations.enter(coming.address)
        try:
            await session.recall(snapshot, coming.key)
            session.belongs_to(tracing.current())
            peer, sdp = await session.connect(coming.offer, self._ice)
        except SessionOver:
            raise no_pipeline() from None
        except BaseException:
            self.conversations.release(session)
            raise
        return Connected(session=session.id, key=session.key, sdp=sdp, notes=peer.notes)

    async def _resume(self, coming: ConnectRequest) -> Connected:
        session = self.conversations.find(coming.session, coming.key)
        session.returns.take(time.monotonic())
        if not coming.listening:
            session.belongs_to(tracing.current())
        try:
            peer, sdp = await session.connect(coming.offer, self._ice, listening=coming.listening)
        except SessionOver:
            if isinstance(session, Newcomer):  # who has a session by now, or is gone
                return await self._resume(coming)
            raise gone() from None
        return Connected(session=session.id, key=session.key, sdp=sdp, notes=peer.notes)

    async def trickle(self, session: str, key: str, fragment: str) -> None:
        """See `ConversationService.trickle`."""
        found = self.conversations.find(session, key)
        await add_fragment([peer for peer in (found.peer, found.listener) if peer is not None], fragment)

    async def end(self, session: str, key: str) -> None:
        """See `ConversationService.end`."""
        self.conversations.find(session, key).end("hung-up", "The conversation was ended.")

    async def stands(self, session: str, key: str) -> bool:
        """See `ConversationService.stands`."""
        return self.conversations.find(session, key).state is not SessionState.AWAY

    async def sessions(self) -> list[dict[str, Any]]:
        """See `ConversationService.sessions`."""
        return [described(session) for session in self.conversations.sessions.values()]

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """See `ConversationService.metrics`."""
        return encoded(families(self.conversations), accept)

    async def hosts(self) -> list[dict[str, Any]]:
        """None."""
        return []

    async def drain_host(self, name: str) -> Mapping[str, Any]:
        """There is none."""
        raise Refused(404, "no-host", "All conversations of this server are in its own process: there are no hosts.")


def described(session: Session) -> dict[str, Any]:
    """One conversation, for the operator. `floor`: who has it; `played_ms`: of the last answer to speech,
    `played_p95_ms`: of the last hundred, from the end of speech to the first sound.
    """
    played = session.answers.played_ms
    return {
        "id": session.id,
        "state": session.state.value,
        "age_s": round(session.age_s, 1),
        "floor": session.call.floor,
        "turns": len(session.worker.turns.turns),
        "played_ms": round(played[-1]) if played else None,
        "played_p95_ms": round(quantile(played, 0.95)) if played else None,
        "problems": session.problem_count,
        "reconnects": session.reconnects,
        "gaps": session.call.playout.gaps,
        "lost_units": session.call.counts["audio_lost"],
    }
