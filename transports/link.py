"""What every transport gives: two ends of one edge, packets one way, signals both ways.

The sending end is asked to take packets and says when it may take more; the receiving end says when there is
something to take. Neither waits, neither has a task: callbacks are called on the loop's thread. What travels:

    packets     in order, at most `window` of them sent and not yet taken
    acknowledgements
                up, where the consumer gives them: how many further packets, in order, need never be sent again
    signals     down with the packets and up against them, both overtaking every packet
    end         behind the last packet; the receiving end answers when all were taken

A link that breaks says so once, by `on_lost`, at both ends. It is not mended: the ends get a new one, of a higher
generation, or none. A listener refuses generations below the one it has, so that a worker that was taken for dead and
replaced can do no harm when it turns out alive.

What came and cannot be read is told, once each, by `on_bad`: a packet of a type that this process does not know, a
signal of a later version. It costs itself and nothing else: it counts as taken, and is acknowledged with the packets
around it.
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
    """A connection that could not be made or has broken, or a peer that does not keep to the protocol."""


class Sender(Protocol):
    """The producer's end. Set the callbacks before the first call.

    `next_seq`: the lowest number of a packet that the consumer has not had. `settled`: the lowest one that it may need
    again. Both are 0 where it has had none.
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
        """Take a packet, or say False: then offer it again after `on_room`."""
        ...

    def unreceived(self) -> list[Packet]:
        """The packets taken by `offer` that the consumer's end is not known to have received: of a link that was lost
        while the consumer lives, these are to be offered to the next one.
        """
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
    """Counts packets that came and could not be read, and has them acknowledged with those around them."""

    def __init__(self) -> None:
        self.count = 0
        self._acknowledged = 0
        self._places: deque[int] = deque(maxlen=_PLACES)

    def left_out(self, taken: int) -> None:
        """One could not be read, after `taken` that could."""
        self.count += 1
        self._places.append(taken)

    def acknowledged(self, count: int) -> int:
        """For how many packets an acknowledgement of the next `count` that were given to the consumer stands."""
        self._acknowledged += count
        while self._places and self._places[0] <= self._acknowledged:
            self._places.popleft()
            count += 1
        return count


def ignore(*_: object) -> None:
    """The default of a callback that has not been set."""
