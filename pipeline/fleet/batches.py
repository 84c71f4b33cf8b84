"""How large a batch of the backlog may be, so that what is new does not wait long behind it.

Theory of operation. The backlog goes up batch by batch, each answered before the next is sent. So what it has in the
link's queue is at most one batch, and a live record waits at most for what is left of that. A batch is made as large as
the link took in `target_ns` of late: the size follows what the last ones took, upwards at most twofold each time,
downwards at once. On a link that is slower than thought one batch is late, and the next is small. Time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

_MS = 1_000_000


@dataclass(slots=True)
class BatchSize:
    """Ask `size`, bytes, before each batch, and tell what it took."""

    target_ns: int = 250 * _MS
    least: int = 4 << 10
    most: int = 256 << 10
    size: int = 16 << 10

    def took(self, sent: int, took_ns: int) -> None:
        """A batch of `sent` bytes was answered after so long."""
        fits = sent * self.target_ns // max(1, took_ns)
        wanted = fits if fits < self.size else min(fits, 2 * self.size)
        if sent >= self.size // 2 or wanted < self.size:  # one that was not full says nothing about larger ones
            self.size = max(self.least, min(self.most, wanted))

    def failed(self) -> None:
        """A batch was not answered: the link may be another one by now."""
        self.size = max(self.least, min(self.size, 16 << 10))
