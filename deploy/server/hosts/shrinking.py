"""Which host is not needed any more, and how many there should be where hosts end by themselves.

state   event                                       next
USED    no conversation is there                    IDLE
IDLE    a conversation is there                     USED
IDLE    `after_s` passed, and the others hold all   ENDED   it is emptied, and ends; its node may be taken away
        that is talked with at most `FILL` of
        their places taken
ENDED   it is gone                                  –

One at a time, the last by name: several fronts choose the same. A host that is loading, or does not answer, is none of
"the others". Times are arguments, seconds of any one clock.
"""

from __future__ import annotations

from collections.abc import Iterable

from thalweg.deploy.server.hosts.placing import FILL, Room, taken_of


class Shrinking:
    """Of one front. `after_s`: how long a host is idle before it ends; 0: none does."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._idle_s: dict[str, float] = {}

    def look(self, rooms: Iterable[Room], now_s: float) -> str | None:
        """`rooms`: of hosts that newcomers may be sent to. The one that is to end now, if there is one."""
        if not self._after_s:
            return None
        known = list(rooms)
        idle = {room.name for room in known if not room.held + room.pending}
        self._idle_s = {name: self._idle_s.get(name, now_s) for name in idle}
        long = [name for name, since_s in self._idle_s.items() if now_s - since_s >= self._after_s]
        for name in sorted(long, reverse=True):
            taken, places = taken_of(room for room in known if room.name != name and room.ready)
            if places and taken <= FILL * places:
                del self._idle_s[name]
                return name
        return None
