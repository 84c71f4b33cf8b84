"""What every transport gives: two ends of one edge, packets one way, signals both ways.

The sending end is asked to take packets and says when it may take more; the receiving end says when there is
something to take. Neither waits, neither has a task: callbacks are called on the loop's thread. What travels:

    packets     in order, at most `window` of them sent and not yet taken
    signals     down with the packets and up against them, both overtaking every packet
    end         behind the last packet; the receiving end answers when all were taken

A link that breaks says so once, by `on_lost`, at both ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.signal import Signal


class TransportError(ThalwegError):
    """A connection that could not be made or has broken, or a peer that does not keep to the protocol."""


class Sender(Protocol):
    """The producer's end. Set the callbacks before the first call."""

    on_room: Callable[[], None]
    on_signal: Callable[[Signal], None]
    on_ended: Callable[[], None]
    on_lost: Callable[[str], None]

    def offer(self, packet: Packet) -> bool:
        """Take a packet, or say False: then offer it again after `on_room`."""
        ...

    def signal(self, signal: Signal) -> None:
        """Send a signal down."""
        ...

    def end(self) -> None:
        """Nothing more will come; `on_ended` follows when all was taken."""
        ...

    def close(self) -> None:
        """Hang up. Idempotent."""
        ...


class Receiver(Protocol):
    """The consumer's end. Set the callbacks before the first call."""

    on_packet: Callable[[], None]
    on_signal: Callable[[Signal], None]
    on_end: Callable[[], None]
    on_lost: Callable[[str], None]

    def take(self) -> Packet | None:
        """The next packet, if there is one."""
        ...

    def signal(self, signal: Signal) -> None:
        """Send a signal up."""
        ...

    def close(self) -> None:
        """Hang up. Idempotent."""
        ...


def ignore(*_: object) -> None:
    """A callback that nobody has set yet."""
