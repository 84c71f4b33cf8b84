"""Draining a host: each visitor is asked to reconnect between two turns, and a front places them elsewhere.

state     event                                                  next
STAYS     no one has the floor, and of others fewer than         ASKED     told to connect anew
          `AT_ONCE` are on their way; or `HURRY_S` are left
ASKED     `PATIENCE_S` passed                                    HUNG_UP   the connection is closed: a client that knows
                                                                           no `reconnect` comes back as after a loss
any       `within_s` passed                                      ENDED     no other host had room: they are told goodbye

One after the other: a connection takes a moment of both machines, and if all of a host were made at once each person
would be without one for the moments of all.

A visitor who is away is not asked: their conversation stays until they reconnect, elsewhere, or `within_s` passed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from enum import Enum

from thalweg.deploy.server.conversations import Conversations
from thalweg.deploy.server.session import Session, SessionState
from thalweg.pipeline.dialogue.events import Reconnect

TICK_S = 0.1
HURRY_S = 10.0
PATIENCE_S = 3.0
AT_ONCE = 4


class MoveState(Enum):
    """See the table above."""

    STAYS = "stays"
    ASKED = "asked"
    HUNG_UP = "hung up"
    ENDED = "ended"


TRANSITIONS: Mapping[MoveState, frozenset[MoveState]] = {
    MoveState.STAYS: frozenset({MoveState.ASKED, MoveState.ENDED}),
    MoveState.ASKED: frozenset({MoveState.HUNG_UP, MoveState.ENDED}),
    MoveState.HUNG_UP: frozenset({MoveState.ENDED}),
    MoveState.ENDED: frozenset(),
}
"""The table above as data: state → possible next states, without itself."""


class Move:
    """Of one conversation: when it is asked, hung up, ended. Times are arguments, seconds since the draining began."""

    def __init__(self, within_s: float) -> None:
        self.state = MoveState.STAYS
        self._within_s = within_s
        self._asked_s = 0.0

    def passed(self, now_s: float, *, between_turns: bool, under_way: int = 0) -> MoveState | None:
        """What has become of it just now, None where nothing has. `under_way`: others that were asked and are here."""
        before = self.state
        free = between_turns and under_way < AT_ONCE
        if now_s >= self._within_s:
            self.state = MoveState.ENDED
        elif self.state is MoveState.STAYS and (free or now_s >= self._within_s - HURRY_S):
            self.state, self._asked_s = MoveState.ASKED, now_s
        elif self.state is MoveState.ASKED and now_s >= self._asked_s + PATIENCE_S:
            self.state = MoveState.HUNG_UP
        return self.state if self.state is not before else None


class Moving:
    """Empties one host within `within_s`, once `begin` was called. `run` does it, until cancelled."""

    def __init__(self, conversations: Conversations, within_s: float) -> None:
        self.within_s = within_s
        self.ends = False
        self._conversations = conversations
        self._moves: dict[str, Move] = {}
        self._began = asyncio.Event()
        self._began_s = 0.0

    def begin(self, *, ends: bool) -> None:
        """Admit no new conversations from now on. Idempotent. `ends`: the host is not needed once it is empty."""
        self.ends = self.ends or ends
        if not self._began.is_set():
            self._conversations.draining = True
            self._began_s = time.monotonic()
            self._began.set()

    async def run(self) -> None:
        """See the table above."""
        await self._began.wait()
        while True:
            now_s = time.monotonic() - self._began_s
            sessions = dict(self._conversations.sessions)
            self._moves = {name: self._moves.get(name) or Move(self.within_s) for name in sessions}
            for name, session in sessions.items():
                if not session.over:
                    await self._step(session, self._moves[name], now_s)
            await asyncio.sleep(TICK_S)

    async def _step(self, session: Session, move: Move, now_s: float) -> None:
        there = session.state is SessionState.TALKING
        became = move.passed(now_s, between_turns=there and session.call.between_turns, under_way=self._under_way())
        if became is MoveState.ASKED:
            session.call.tell(Reconnect())
        elif became is MoveState.HUNG_UP and session.peer is not None:
            await session.peer.close()
        elif became is MoveState.ENDED:
            session.end("closing", "This server is about to stop. Start a new conversation.")

    def _under_way(self) -> int:
        """How many were asked, and have not been placed elsewhere yet."""
        sessions = self._conversations.sessions
        return sum(
            move.state is MoveState.ASKED and name in sessions and not sessions[name].over
            for name, move in self._moves.items()
        )
