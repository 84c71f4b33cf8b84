"""Staying in a conversation whose host moves or dies: when a client pings, asks, connects anew, and gives up.

state  event                                      next    what the client does
THERE  every `BEAT_S`                             THERE   pings
THERE  no pong for `SILENT_S`, at each beat       THERE   asks the server whether the conversation is still there
THERE  it is not, or the connection failed        AWAY    connects anew at once, then after each of `PAUSES_S`
THERE  `reconnect`                                MOVING  connects anew while the old connection stands
MOVING connected                                  THERE
MOVING not connected                              AWAY
AWAY   connected                                  THERE
AWAY   the server knows no such conversation      GONE
AWAY   `resume_s` passed                          GONE    it is over
any    `bye`                                      GONE

No clock and no network: times are arguments, seconds of any one clock. The web page does the same (`call.js`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

BEAT_S = 0.5
SILENT_S = 1.6
PAUSES_S = (0.0, 0.3, 0.7, 1.5, 3.0)


class PresenceState(Enum):
    """See the table above."""

    THERE = "there"
    MOVING = "moving"
    AWAY = "away"
    GONE = "gone"


TRANSITIONS: Mapping[PresenceState, frozenset[PresenceState]] = {
    PresenceState.THERE: frozenset({PresenceState.AWAY, PresenceState.MOVING, PresenceState.GONE}),
    PresenceState.MOVING: frozenset({PresenceState.THERE, PresenceState.AWAY, PresenceState.GONE}),
    PresenceState.AWAY: frozenset({PresenceState.THERE, PresenceState.GONE}),
    PresenceState.GONE: frozenset(),
}
"""The table above as data: state → possible next states, without itself."""


class Step(Enum):
    """What a client does next."""

    WAIT = "wait"
    PING = "ping"
    ASK = "ask"
    CONNECT = "connect"
    LEAVE = "leave"


class Presence:
    """Of one client, which is connected at `now_s`. `resume_s`: for how long the server keeps a lost conversation."""

    def __init__(self, now_s: float, resume_s: float) -> None:
        self.state = PresenceState.THERE
        self.resume_s = resume_s
        self._answered_s = now_s
        self._beat_s = now_s
        self._asks = False
        self._away_s = 0.0
        self._again_s = 0.0
        self._tries = 0

    def next(self, now_s: float) -> tuple[Step, float]:
        """What to do now, and for WAIT how many seconds at most until the next call."""
        if self.state is PresenceState.GONE:
            return Step.LEAVE, 0.0
        if self.state is PresenceState.MOVING:
            return Step.CONNECT, 0.0
        if self.state is PresenceState.AWAY:
            return (Step.CONNECT, 0.0) if now_s >= self._again_s else (Step.WAIT, self._again_s - now_s)
        if self._asks:
            self._asks = False
            return Step.ASK, 0.0
        if now_s < self._beat_s:
            return Step.WAIT, self._beat_s - now_s
        if now_s - self._beat_s > 2 * BEAT_S:  # this process itself stood still
            self._answered_s = now_s
        self._beat_s = now_s + BEAT_S
        self._asks = now_s - self._answered_s > SILENT_S
        return Step.PING, 0.0

    def event(self, kind: str, now_s: float) -> None:
        """The server has told an event of this type."""
        if kind == "pong":
            self._answered_s = now_s
        elif kind == "bye":
            self.state = PresenceState.GONE
        elif kind == "reconnect" and self.state is PresenceState.THERE:
            self.state = PresenceState.MOVING

    def lost(self, now_s: float) -> None:
        """The connection failed, or the server says that the conversation is not where we are connected."""
        if self.state in (PresenceState.THERE, PresenceState.MOVING):
            self.state = PresenceState.AWAY
            self._away_s, self._tries = now_s, 0
            self._again_s = now_s + PAUSES_S[0]

    def connected(self, now_s: float) -> None:
        """We are connected anew."""
        if self.state is not PresenceState.GONE:
            self.state = PresenceState.THERE
            self._answered_s = self._beat_s = now_s
            self._asks = False

    def refused(self, code: str, now_s: float) -> None:
        """We could not connect anew; `code`: of the server, or of `TalkError`."""
        if self.state is PresenceState.MOVING:
            self.lost(now_s)
        elif self.state is PresenceState.AWAY:
            self._tries = min(self._tries + 1, len(PAUSES_S) - 1)
            self._again_s = now_s + PAUSES_S[self._tries]
            if code == "gone" or now_s - self._away_s > self.resume_s:
                self.state = PresenceState.GONE
