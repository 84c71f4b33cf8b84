"""The interface of every transport: two ends of one edge, packets one way, signals both ways.

The sender accepts packets and reports by a callback when it can accept more; the receiver reports when packets are
available. Neither blocks nor has a task: callbacks run on the event loop's thread. Transported are:

    packets     in order, at most `window` of them sent and not yet taken
    acknowledgements
                up, if the consumer gives them: how many further packets, in order, need never be sent again
    signals     down with the packets and up against them, both overtaking every packet
    end         behind the last packet; the receiving end answers when all were taken

A broken link is reported once, by `on_lost`, at both ends. It is not repaired: the ends get a new link, of a higher
generation, or none. A listener refuses generations below its own, so that a worker that was replaced while it was still
alive does no harm.

A message that cannot be decoded is reported once, by `on_bad`: a packet of a type that this process does not know, a
signal of a later version. Only that message is lost: it counts as taken, and is acknowledged with the packets around
it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.signal import Signal

_PLACES = 4096  # a producer keeps no more packets than that for sending again


class TransportError(ThalwegError):
    """A connection failed or broke, or the peer violated the protocol."""


class Sender(Protocol):
    """The producer's end. Set the callbacks before the first call.

    `next_seq`: the lowest `seq` that the consumer has not received. `settled`: the lowest one that it may need again.
    Both are 0 if it has received none.
    """

    next_seq: int
    settled: int
    on_room: Callable[[], None]
    on_signal: Callable[[Signal], None]
    on_ended: Callable[[], None]
    on_acknowledged: Callable[[int], None]
    on_bad: Callable[[str], None]
    on_lost: Callable[[str], None]

    @property
    def has_room(self) -> bool:
        """Whether the window allows another packet."""
        ...

    def offer(self, packet: Packet) -> bool:
        """Accept a packet, or return False: then offer it again after `on_room`."""
        ...

    def unreceived(self) -> list[Packet]:
        """The packets accepted by `offer` whose receipt is not confirmed. If a link is lost while the consumer lives,
        offer them to the next link.
        """
        ...

    def signal(self, signal: Signal) -> None:
        """Send a signal down."""
        ...

    def end(self) -> None:
        """End the stream; `on_ended` follows when all packets were taken."""
        ...

    def close(self) -> None:
        """Hang up. Idempotent."""
        ...


class Receiver(Protocol):
    """The consumer's end. Set the callbacks before the first call."""

    on_packet: Callable[[], None]
    on_signal: Callable[[Signal], None]
    on_end: Callable[[], None]
    on_bad: Callable[[str], None]
    on_lost: Callable[[str], None]

    def take(self) -> Packet | None:
        """The next packet, if there is one."""
        ...

    def acknowledge(self, count: int) -> None:
        """The next `count` packets that were taken need not be sent again."""
        ...

    def signal(self, signal: Signal) -> None:
        """Send a signal up."""
        ...

    def close(self) -> None:
        """Hang up. Idempotent."""
        ...


class Unreadable:
    """Counts packets that could not be decoded, so that they are acknowledged with those around them."""

    def __init__(self) -> None:
        self.count = 0
        self._acknowledged = 0
        self._places: deque[int] = deque(maxlen=_PLACES)

    def left_out(self, taken: int) -> None:
        """Count a packet that could not be decoded, after `taken` that could."""
        self.count += 1
        self._places.append(taken)

    def acknowledged(self, count: int) -> int:
        """How many packets to acknowledge when the consumer acknowledges the next `count` that it was given."""
        self._acknowledged += count
        while self._places and self._places[0] <= self._acknowledged:
            self._places.popleft()
            count += 1
        return count


def ignore(*_: object) -> None:
    """The default of a callback that has not been set."""
