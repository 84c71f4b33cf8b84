"""How much media an uplink takes beside what matters more: what senders of video are told to produce at most.

Theory of operation. Media goes up in batches of its own, so small that what matters more never waits long behind one.
So the link is shared by itself, and what it leaves for media shows: where media waits, it is what arrived of late, less
a little, so that what waits goes; where none waits, there may be more, and a little more is asked for.

    media waits for         the budget becomes
    more than `BEHIND_S`,   `LESS` of what arrived since the last look, at least `LEAST_BPS`
    or the link's queue
    is `QUEUED_NS` long
    less                    `MORE` of what it was, at most `MOST_BPS`; no more than `AHEAD` of what arrived, where
                            the senders do not use what they have

Time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

LOOK_NS, QUEUED_NS = 1_000_000_000, 70_000_000
BEHIND_S = 0.3
LESS, MORE, AHEAD = 0.95, 1.06, 1.6
LEAST_BPS, START_BPS, MOST_BPS = 20_000, 200_000, 20_000_000


@dataclass(slots=True)
class MediaBudget:
    """Ask `bps`, and tell it what arrives; `look` once in a while, `LOOK_NS` apart at least."""

    bps: int = START_BPS
    _arrived: int = 0
    _since_ns: int | None = None

    def arrived(self, size: int) -> None:
        """So many bytes of media are with the hub."""
        self._arrived += size

    def look(self, now_ns: int, waiting: int, queued_ns: int = 0) -> int:
        """The budget, bit/s. `waiting`: bytes of media that are to go up now and have not; `queued_ns`: how much longer
        than it must what is small takes of late.
        """
        if self._since_ns is None:
            self._since_ns = now_ns
        passed_ns = now_ns - self._since_ns
        if passed_ns < LOOK_NS:
            return self.bps
        got_bps = self._arrived * 8 * 1e9 / passed_ns
        if waiting * 8 > BEHIND_S * self.bps or queued_ns > QUEUED_NS:
            wanted = LESS * got_bps
        else:
            wanted = min(MORE * self.bps, max(AHEAD * got_bps, self.bps * 0.95))
        self.bps = round(max(LEAST_BPS, min(MOST_BPS, wanted)))
        self._arrived, self._since_ns = 0, now_ns
        return self.bps
