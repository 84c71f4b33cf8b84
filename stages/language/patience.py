"""How long an answer is waited for. Pure: what came, and when, in; until when to wait, out.

    came                        waited for from then on
    nothing yet                 `timeout`
    text, thoughts              `timeout`, anew
    a sign of life, a ping      `timeout`, anew, but no longer than `timeout` × 6 since the last text or thought

A server that loads a model or has a queue sends pings, and may be minutes away from its first word. The proxy of a dead
server sends pings indefinitely. Six times is a minute by default.
"""

from __future__ import annotations

from thalweg.models.language.backend import Delta, Progress, Text, Thinking

PINGS = 6


class Patience:
    """Of one reply, asked for at `now_ns`. `until_ns`: when it ends, unless something comes."""

    def __init__(self, timeout_ns: int, now_ns: int) -> None:
        self._timeout_ns = timeout_ns
        self._content_ns = now_ns
        self.until_ns = now_ns + timeout_ns
        self.pinged = False

    def heard(self, delta: Delta, now_ns: int) -> None:
        """Something came."""
        if isinstance(delta, Text | Thinking):
            self._content_ns, self.pinged = now_ns, False
        elif isinstance(delta, Progress):
            self.pinged = self.pinged or delta.kind == "ping"
        self.until_ns = min(now_ns + self._timeout_ns, self._content_ns + PINGS * self._timeout_ns)

    def waited_ns(self, now_ns: int) -> int:
        """Since the last text or thought."""
        return now_ns - self._content_ns
