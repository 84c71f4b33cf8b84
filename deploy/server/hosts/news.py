"""What a host tells its fronts, again and again: how it is, and which of its conversations have changed.

A front asks with the number of the last answer it has; the next comes once there is something new, after `QUIET_S` at
the latest. So a front that was away, or is new, is told everything once, and what did not change is told once only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
import time
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from thalweg.deploy.server.conversations import Conversations
from thalweg.deploy.server.newcomer import Newcomer
from thalweg.deploy.server.session import Session, SessionState

log = logging.getLogger(__name__)

TICK_S = 0.1
QUIET_S = 0.5
LOADING = "loading"
NEWCOMERS = 8
"""Of those who are not connected yet so many count as held: more would be no newcomers, but a flood."""
SELDOM = 4
"""A conversation that stays between turns is read at one of this many looks."""
_TOLD = (SessionState.READY, SessionState.TALKING, SessionState.AWAY)


class HostState(BaseModel):
    """How a host is. `not_ready`: why a newcomer would have to wait; `limit`: most conversations, None: not known.

    `shared_full`: a worker that all hosts share has no room, and so neither this host nor another one more.
    """

    model_config = ConfigDict(frozen=True)
    not_ready: str = Field(default="", max_length=200)
    draining: bool = False
    held: int = 0
    limit: int | None = None
    busy: bool = False
    shared_full: bool = False
    late_s: float = 0.0
    used: float = 0.0


class SessionNews(BaseModel):
    """One conversation. `key`: a digest of the key that resumes it; `was`: the id it had on another host."""

    model_config = ConfigDict(frozen=True)
    key: str = Field(max_length=64)
    address: str = Field(max_length=100)
    state: str = Field(max_length=20)
    was: str = Field(default="", max_length=100)
    snapshot: dict[str, Any] | None = None


class News(BaseModel):
    """An answer. `changed`: conversations that are new or other than at `since`; `all`: every one there is now."""

    model_config = ConfigDict(frozen=True)
    boot: str = Field(max_length=40)
    number: int
    state: HostState
    changed: dict[str, SessionNews] = Field(max_length=5000)
    all: list[str] = Field(max_length=5000)


class NewsFeed:
    """The news of one host. `run` gathers; `asked_s`: when a front has asked last."""

    def __init__(self, conversations: Conversations) -> None:
        self.boot = secrets.token_hex(8)
        self.asked_s = time.monotonic()
        self._conversations = conversations
        self._known: dict[str, tuple[int, SessionNews]] = {}
        self._number = 0
        self._changed = asyncio.Event()
        self._was: dict[str, str] = {}
        self._looks = 0
        self._quiet: set[str] = set()
        self._untold: set[str] = set()

    def moved(self, session: str, was: str) -> None:
        """A conversation has come here, which had another id elsewhere."""
        self._was[session] = was

    async def run(self) -> None:
        """Look at every conversation, until cancelled."""
        while True:
            await self._look()
            await asyncio.sleep(TICK_S)

    async def next(self, boot: str, since: int) -> News:
        """What is new since the answer `since` of the boot `boot`; of another boot, everything."""
        self.asked_s = time.monotonic()
        if boot != self.boot:
            since = -1
        elif since >= self._number:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_S):
                    await self._changed.wait()
        self.asked_s = time.monotonic()
        changed = {name: news for name, (number, news) in self._known.items() if number > since}
        return News(boot=self.boot, number=self._number, state=self.state(), changed=changed, all=list(self._known))

    def state(self) -> HostState:
        """How the host is now."""
        conversations = self._conversations
        held = sum(not session.over for session in conversations.sessions.values()) + conversations.waiting.total()
        held += min(len(conversations.newcomers), NEWCOMERS)
        limit, full = conversations.limit, conversations.full
        return HostState(
            not_ready="" if conversations.ready or full else conversations.problem[:200] or LOADING,
            draining=conversations.draining,
            held=held,
            limit=limit if full is None else min(held, limit or held),
            busy=conversations.busy,
            shared_full=full is not None and full.everywhere,
            late_s=conversations.load.late_s,
            used=conversations.load.used,
        )

    async def _look(self) -> None:
        seen: set[str] = set()
        self._looks += 1
        for session in list(self._conversations.sessions.values()):
            if session.state not in _TOLD or session.over:
                continue
            seen.add(session.id)
            between = session.call.between_turns
            if between and session.id in self._quiet and self._looks % SELDOM:
                continue
            try:
                news = await self._news_of(session)
            except Exception as error:  # of what its stages remember: it must not affect other conversations
                self._say(session.id, error)
                continue
            (self._quiet.add if between else self._quiet.discard)(session.id)
            self._tell(session.id, news)
        for newcomer in (*self._conversations.newcomers.values(), *self._conversations.arriving.values()):
            seen.add(newcomer.id)
            self._tell(newcomer.id, _news_of_newcomer(newcomer))
        for gone in self._known.keys() - seen:
            del self._known[gone]
            self._number += 1
            self._changed.set()
        self._quiet &= seen
        self._untold &= seen
        for gone in self._was.keys() - self._conversations.sessions.keys():
            del self._was[gone]

    def _tell(self, session: str, news: SessionNews) -> None:
        if session not in self._known or self._known[session][1] != news:
            self._number += 1
            self._known[session] = self._number, news
            self._changed.set()

    def _say(self, session: str, error: Exception) -> None:
        """To the log, once: what a conversation is now cannot be told. Not a word of what stands in it."""
        if session not in self._untold:
            self._untold.add(session)
            said = {"session": session}
            why = type(error).__name__
            log.error("session %s cannot be told of to fronts: %s", session, why, extra={"fields": said})

    async def _news_of(self, session: Session) -> SessionNews:
        return SessionNews(
            key=key_digest(session.key),
            address=session.address,
            state=session.state.value,
            was=self._was.get(session.id, ""),
            snapshot=None if session.untouched else (await session.snapshot()).model_dump(),
        )


def _news_of_newcomer(newcomer: Newcomer) -> SessionNews:
    return SessionNews(key=key_digest(newcomer.key), address=newcomer.address, state=SessionState.READY.value)


def key_digest(key: str) -> str:
    """What a front compares a key with. A key has 144 random bits and cannot be recovered from its digest."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
