"""The states of a conversation.

state      event                              next
OPENING    the stages are open                READY      an instance that waits for a visitor
READY      a connection opened its channel    TALKING
READY      the pipeline ended                 ENDED      before a visitor came
TALKING    the connection failed or closed    AWAY       the pipeline runs on; what would be played waits
AWAY       a new connection opened            TALKING    the conversation goes on
AWAY       `resume_s` passed                  ENDED
TALKING    the pipeline ended by itself       ENDED      the person is told
any        end                                ENDED      the pipeline is given a moment, then abandoned
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class SessionState(Enum):
    """See the table above."""

    OPENING = "opening"
    READY = "ready"
    TALKING = "talking"
    AWAY = "away"
    ENDED = "ended"


TRANSITIONS: Mapping[SessionState, frozenset[SessionState]] = {
    SessionState.OPENING: frozenset({SessionState.READY, SessionState.ENDED}),
    SessionState.READY: frozenset({SessionState.TALKING, SessionState.ENDED}),
    SessionState.TALKING: frozenset({SessionState.AWAY, SessionState.ENDED}),
    SessionState.AWAY: frozenset({SessionState.TALKING, SessionState.ENDED}),
    SessionState.ENDED: frozenset(),
}
"""The table above as data: state → possible next states, without itself."""
