"""When what is large may be sent, piece by piece, so that what is small finds the link free between two pieces.

Theory of operation. A frame of video that is handed over whole lies in the link's queue whole: at 500 kbit/s 5 kB are
80 ms, and a record that is made meanwhile waits for all of it. So the pieces of a frame leave at a pace that is near
what the link takes of media. Which that is, is known from the budget that senders follow (`media_budget.py`): a little
more than that where the link has a queue, twice as much where it has none, so that a link that takes more is found out
soon. What was not sent in time is not made up for: a pause is followed by no burst. Time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

QUEUE_NS = 25_000_000
WITH_QUEUE, WITHOUT = 1.15, 2.0
PIECE, PIECE_NS = 1400, 2_000_000
"""A piece is one packet's worth, or what the pace takes in two milliseconds: shorter pauses are none."""


@dataclass(slots=True)
class Pacer:
    """`follow` it with the budget, ask `piece` how much to send at a time, and `wait_ns` before each."""

    bps: float = 1e9
    _free_ns: int = 0

    def follow(self, budget_bps: int, queued_ns: int) -> None:
        """The budget of media as it is now, bit/s, and how long the link's queue is."""
        self.bps = budget_bps * (WITH_QUEUE if queued_ns > QUEUE_NS else WITHOUT)

    @property
    def piece(self) -> int:
        """Bytes."""
        return max(PIECE, int(self.bps * PIECE_NS / 8e9))

    def wait_ns(self, size: int, now_ns: int) -> int:
        """How long to wait before so many bytes are sent, which they then are."""
        begin_ns = max(self._free_ns, now_ns)
        self._free_ns = begin_ns + int(size * 8e9 / self.bps)
        return begin_ns - now_ns
