"""The only connection between stages: a bounded queue that counts every packet it drops.

Theory of operation. One producer pushes, one consumer pops, and the channel decides what is kept:

    policy        push into a full channel
    BLOCK         refused (Push.FULL): the producer keeps the packet and offers it again when there is room
    DROP_OLDEST   the oldest queued packet gives way (Drop.OVERFLOW)
    LATEST        as DROP_OLDEST with a capacity of one (Drop.SUPERSEDED): the newest state is all that counts

    state     event             next      effect
    OPEN      push              OPEN      queued, refused or replaced as above
    OPEN      close             DRAINING  nothing more may be pushed; what is queued may still be popped
    DRAINING  last packet out   CLOSED
    any       raise_epoch       same      queued packets of older epochs are dropped (Drop.STALE)

Every policy, BLOCK too, drops packets that are stale, expired or past their deadline, because they are useless. They
are dropped at push and at pop, since most packets expire while they wait.

No clock inside: `now_ns` is an argument. At any moment `pushed == popped + depth + sum(drops)`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from thalweg.pipeline.errors import ChannelClosed, ThalwegError
from thalweg.pipeline.packet import AMBIENT, Packet


class Policy(Enum):
    """What a full channel does with another packet."""

    BLOCK = "block"
    DROP_OLDEST = "drop_oldest"
    LATEST = "latest"


class Push(Enum):
    """The outcome of a push: FULL means that the producer still owns the packet."""

    QUEUED = "queued"
    DROPPED = "dropped"
    FULL = "full"


class Drop(Enum):
    """Why a packet was dropped. GONE: its consumer no longer exists."""

    OVERFLOW = "overflow"
    SUPERSEDED = "superseded"
    STALE = "stale"
    EXPIRED = "expired"
    DEADLINE = "deadline"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStats:
    """Counts since the channel was made. `pushed` leaves out refusals; `drops` has every reason."""

    pushed: int
    popped: int
    depth: int
    max_depth: int
    drops: Mapping[Drop, int]


class Channel:
    """A bounded queue between one producer and one consumer.

    `capacity`: packets, at least 1; LATEST always holds one. When in doubt, BLOCK with what the consumer
    handles in about 100 ms: more hides a consumer that is too slow, less makes the producer wait on jitter.
    `max_age_ns`: a packet whose capture time lies further back is dropped (Drop.EXPIRED).
    Raises ThalwegError on a capacity or age that is not positive.
    """

    def __init__(self, *, policy: Policy = Policy.BLOCK, capacity: int = 8, max_age_ns: int | None = None) -> None:
        if capacity < 1:
            raise ThalwegError(f"channel capacity is {capacity}, expected at least 1")
        if max_age_ns is not None and max_age_ns <= 0:
            raise ThalwegError(f"channel max_age_ns is {max_age_ns}, expected a positive number or None")
        self.policy = policy
        self.capacity = 1 if policy is Policy.LATEST else capacity
        self.max_age_ns = max_age_ns
        self._queue: deque[Packet] = deque()
        self._epoch = AMBIENT
        self._closing = False
        self._pushed = 0
        self._popped = 0
        self._max_depth = 0
        self._drops = dict.fromkeys(Drop, 0)

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def head(self) -> Packet | None:
        """The oldest queued packet, or None. `pop` may still drop it."""
        return self._queue[0] if self._queue else None

    @property
    def waiting(self) -> tuple[Packet, ...]:
        """The packets that are queued, oldest first."""
        return tuple(self._queue)

    @property
    def closed(self) -> bool:
        """True once the channel is closed and its last packet was popped."""
        return self._closing and not self._queue

    @property
    def stats(self) -> ChannelStats:
        """The counts so far; the mapping is a copy."""
        return ChannelStats(
            pushed=self._pushed,
            popped=self._popped,
            depth=len(self._queue),
            max_depth=self._max_depth,
            drops=dict(self._drops),
        )

    def push(self, packet: Packet, now_ns: int) -> Push:
        """Offer a packet. After FULL nothing has changed; otherwise the channel owns the packet.

        Raises ChannelClosed after `close`.
        """
        if self._closing:
            raise ChannelClosed(f"packet {packet.seq} of {packet.stream} came after the end of its stream")
        if packet.epoch or packet.deadline is not None or self.max_age_ns is not None:
            reason = self._useless(packet, now_ns)
            if reason is not None:
                self._pushed += 1
                self._drops[reason] += 1
                return Push.DROPPED
        if len(self._queue) >= self.capacity:
            if self.policy is Policy.BLOCK:
                return Push.FULL
            self._queue.popleft()
            self._drops[Drop.SUPERSEDED if self.policy is Policy.LATEST else Drop.OVERFLOW] += 1
        self._queue.append(packet)
        self._pushed += 1
        if len(self._queue) > self._max_depth:
            self._max_depth = len(self._queue)
        return Push.QUEUED

    def pop(self, now_ns: int) -> Packet | None:
        """Take the oldest packet that is neither stale nor expired; None if there is none."""
        while self._queue:
            packet = self._queue.popleft()
            if packet.epoch or packet.deadline is not None or self.max_age_ns is not None:
                reason = self._useless(packet, now_ns)
                if reason is not None:
                    self._drops[reason] += 1
                    continue
            self._popped += 1
            return packet
        return None

    def write_off(self, count: int) -> None:
        """Count this many of the popped packets as dropped (Drop.GONE): they reached no consumer."""
        count = min(count, self._popped)
        self._popped -= count
        self._drops[Drop.GONE] += count

    def raise_epoch(self, epoch: int) -> int:
        """From now on packets of an epoch below `epoch` are stale. Returns how many were dropped at once.

        Lower epochs than the highest seen are ignored, so signals may arrive twice or out of order.
        """
        if epoch <= self._epoch:
            return 0
        self._epoch = epoch
        kept = deque(packet for packet in self._queue if not self._stale(packet))
        dropped = len(self._queue) - len(kept)
        self._queue = kept
        self._drops[Drop.STALE] += dropped
        return dropped

    def close(self) -> None:
        """End the stream after the packets that are queued. Idempotent."""
        self._closing = True

    def _stale(self, packet: Packet) -> bool:
        return packet.epoch != AMBIENT and packet.epoch < self._epoch

    def _useless(self, packet: Packet, now_ns: int) -> Drop | None:
        if self._stale(packet):
            return Drop.STALE
        if packet.deadline is not None and now_ns > packet.deadline:
            return Drop.DEADLINE
        if self.max_age_ns is not None and now_ns - packet.time > self.max_age_ns:
            return Drop.EXPIRED
        return None
