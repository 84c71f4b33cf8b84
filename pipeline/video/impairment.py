"""A bad network as a state machine: when each packet comes out of a link, and which never do.

Theory of operation. A link has a transmitter with a queue before it, and a wire behind it:

    push ──► lost? ──► queue ──► transmitter ──► wire ──► pop
             burst,     bytes       rate or      delay, jitter,
             outage     overflow    trace        late (reordered)

    loss        each packet by itself, with a chance; in bursts by the two states of Gilbert (1960) and Elliott (1963)
    rate        packets leave one after another; `trace` is a rate that changes, repeated indefinitely
    jitter      the delay wanders: a Gaussian with a memory of `jitter_memory_ms` (Ornstein–Uhlenbeck), so that packets
                close together are delayed alike and order is kept without driving every delay to its maximum
    reorder     a packet with that chance is held back for `reorder_ms`, and those behind it overtake
    outage      what is pushed while the cable is out is lost; what is on the wire arrives

Chances are drawn at `push`, each effect from a sequence of its own: the same seed and the same pushes give the same
outcome, and switching one effect on changes nothing about the others. No clock inside: `now_ns` is an argument.
At any moment `pushed == delivered + inside + sum(lost)`.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate, count
from typing import Generic, TypeVar

from thalweg.pipeline.errors import ThalwegError

_MS = 1_000_000
_S = 1_000_000_000
T = TypeVar("T")


class Loss(Enum):
    """Why a packet never came out."""

    RANDOM = "random"
    BURST = "burst"
    OVERFLOW = "overflow"
    OUTAGE = "outage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """Loss in bursts. Per packet: chance to `enter` the bad state, to `leave` it, and to be lost (`loss`) within it.

    In the long run `enter / (enter + leave)` of the packets meet the bad state, for `1 / leave` packets at a time.
    """

    enter: float
    leave: float
    loss: float = 1.0

    def __post_init__(self) -> None:
        for name in ("enter", "leave", "loss"):
            _check_share(f"burst {name}", getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One direction of a network path. The default is a perfect one.

    `delay_ms`: on the wire. `jitter_ms`: standard deviation of the delay, cut at ±4 and at no delay.
    `loss`, `reorder`: shares 0…1 of the packets. `rate`: bit/s. `trace`: (seconds, bit/s) one after another, then
    from the start again, instead of `rate`; 0 bit/s holds everything up. `queue_bytes`: waiting for the transmitter;
    what finds no room is lost. `outages`: (start, length) in seconds. `trace` and `outages` count from when the link
    was made or changed to this. Raises ThalwegError on values out of range.
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    jitter_memory_ms: float = 20.0
    loss: float = 0.0
    burst: Burst | None = None
    reorder: float = 0.0
    reorder_ms: float = 10.0
    rate: float | None = None
    trace: tuple[tuple[float, float], ...] = ()
    queue_bytes: int = 256_000
    outages: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "trace", tuple((float(s), float(bps)) for s, bps in self.trace))
        object.__setattr__(self, "outages", tuple((float(start), float(s)) for start, s in self.outages))
        _check_share("loss", self.loss)
        _check_share("reorder", self.reorder)
        for name in ("delay_ms", "jitter_ms", "jitter_memory_ms", "reorder_ms", "queue_bytes"):
            value = getattr(self, name)
            if not (0 <= value < math.inf):
                raise ThalwegError(f"link {name} is {value}, expected 0 or more")
        if self.rate is not None and not (1 <= self.rate < math.inf):
            raise ThalwegError(f"link rate is {self.rate} bit/s, expected at least 1, or None for no limit")
        if any(not (0 < s < math.inf and 0 <= bps < math.inf) for s, bps in self.trace):
            raise ThalwegError("link trace: expected (seconds, bit/s) with seconds above 0 and no negative rate")
        if self.trace and not any(bps >= 1 for _, bps in self.trace):
            raise ThalwegError("link trace: no rate of 1 bit/s or more, nothing would ever arrive; use an outage")
        if any(start < 0 or s <= 0 for start, s in self.outages):
            raise ThalwegError("link outages: expected (start, length) in seconds, start 0 or more, length above 0")


class Impairment(Generic[T]):
    """One direction of a link, with the packets that are inside. Push them in, pop them when `next_ns` has come."""

    def __init__(self, link: Link, seed: object = 0, *, start_ns: int = 0) -> None:
        self.link = link
        self.pushed = 0
        self.delivered = 0
        self._lost = dict.fromkeys(Loss, 0)
        self._chance = {
            name: random.Random(f"{seed}/{name}") for name in ("random", "state", "burst", "jitter", "late")
        }
        self._bad = False
        self._queue: deque[tuple[T, int, float, bool]] = deque()
        self._queued_bytes = 0
        self._wire: list[tuple[int, int, T]] = []
        self._numbers = count()
        self._head_ns = 0
        self._head_bits = 0
        self._last_ns = 0
        self._wander = 0.0
        self._wandered_ns: int | None = None
        self._begin(link, start_ns)

    def __len__(self) -> int:
        """Packets inside."""
        return len(self._queue) + len(self._wire)

    @property
    def lost(self) -> Mapping[Loss, int]:
        """Packets that never came out, by reason; a copy."""
        return dict(self._lost)

    def push(self, item: T, size: int, now_ns: int) -> Loss | None:
        """Send a packet of `size` bytes. None where it will come out, else why it will not."""
        self._move(now_ns)
        self.pushed += 1
        loss = self._loss(size, now_ns)
        late = self._chance["late"].random() < self.link.reorder
        jitter_ms = self._jitter(now_ns)
        if loss is not None:
            self._lost[loss] += 1
            return loss
        if self._profile is None and not self._queue:
            self._send(item, jitter_ms, late, now_ns)
            return None
        self._queue.append((item, size, jitter_ms, late))
        self._queued_bytes += size
        if len(self._queue) == 1:
            self._head(now_ns)
        return None

    def pop(self, now_ns: int) -> T | None:
        """The next packet that has arrived by now, if there is one."""
        self._move(now_ns)
        if not self._wire or self._wire[0][0] > now_ns:
            return None
        self.delivered += 1
        return heapq.heappop(self._wire)[2]

    @property
    def next_ns(self) -> int | None:
        """When to look again: something arrives, or leaves the transmitter. None while nothing is inside."""
        times = ([self._done_ns] if self._queue else []) + ([self._wire[0][0]] if self._wire else [])
        return min(times) if times else None

    def change(self, link: Link, now_ns: int) -> None:
        """Be another link from now on; what is on the wire arrives as it would have, what waits follows the new one."""
        self._move(now_ns)
        if self._queue and self._profile is not None:
            self._head_bits -= self._profile.bits(self._head_ns - self._start_ns, now_ns - self._start_ns)
        self._begin(link, now_ns)
        if self._queue:
            self._head_ns = now_ns
            self._done_ns = self._when_done()
        self._move(now_ns)

    def _begin(self, link: Link, now_ns: int) -> None:
        self.link = link
        self._start_ns = now_ns
        holds = link.trace or (((1.0, link.rate),) if link.rate is not None else ())
        self._profile = _Profile(holds) if holds else None
        self._outages = [(now_ns + int(a * _S), now_ns + int((a + s) * _S)) for a, s in link.outages]

    def _loss(self, size: int, now_ns: int) -> Loss | None:
        chance, link = self._chance, self.link
        unlucky = chance["random"].random() < link.loss
        turn, hit = chance["state"].random(), chance["burst"].random()
        if link.burst is None:
            self._bad = False
        else:
            self._bad = turn >= link.burst.leave if self._bad else turn < link.burst.enter
        if any(start <= now_ns < end for start, end in self._outages):
            return Loss.OUTAGE
        if self._bad and link.burst is not None and hit < link.burst.loss:
            return Loss.BURST
        if unlucky:
            return Loss.RANDOM
        if self._queue and self._queued_bytes + size > link.queue_bytes:
            return Loss.OVERFLOW
        return None

    def _jitter(self, now_ns: int) -> float:
        """The wander of the delay, in standard deviations × `jitter_ms`."""
        drawn = self._chance["jitter"].gauss(0.0, 1.0)
        if self._wandered_ns is None:
            self._wander = drawn
        else:
            passed_ms = (now_ns - self._wandered_ns) / _MS
            memory = self.link.jitter_memory_ms
            kept = math.exp(-passed_ms / memory) if memory else 0.0
            self._wander = self._wander * kept + drawn * math.sqrt(1 - kept * kept)
        self._wandered_ns = now_ns
        return max(-4.0, min(4.0, self._wander)) * self.link.jitter_ms

    def _head(self, now_ns: int) -> None:
        """The first of the queue begins to be transmitted."""
        self._head_ns = now_ns
        self._head_bits = 8 * self._queue[0][1] * _S
        self._done_ns = self._when_done()

    def _when_done(self) -> int:
        if self._profile is None:
            return self._head_ns
        return self._start_ns + self._profile.when(self._head_ns - self._start_ns, max(0, self._head_bits))

    def _move(self, now_ns: int) -> None:
        """Put on the wire what the transmitter has finished by now."""
        while self._queue and self._done_ns <= now_ns:
            item, size, jitter_ms, late = self._queue.popleft()
            self._queued_bytes -= size
            done_ns = self._done_ns
            self._send(item, jitter_ms, late, done_ns)
            if self._queue:
                self._head(done_ns)

    def _send(self, item: T, jitter_ms: float, late: bool, now_ns: int) -> None:
        arrives_ns = now_ns + max(0, round((self.link.delay_ms + jitter_ms) * _MS))
        if late:
            arrives_ns += round(self.link.reorder_ms * _MS)
        else:
            arrives_ns = self._last_ns = max(arrives_ns, self._last_ns)
        heapq.heappush(self._wire, (arrives_ns, next(self._numbers), item))


class _Profile:
    """A rate over time, repeated. Amounts are bits × 10⁹, so that everything is exact in integers."""

    def __init__(self, holds: tuple[tuple[float, float], ...]) -> None:
        pieces = [(max(1, round(s * _S)), round(bps)) for s, bps in holds]
        self._rates = [bps for _, bps in pieces]
        self._starts = [0, *accumulate(ns for ns, _ in pieces)]
        self._amounts = [0, *accumulate(ns * bps for ns, bps in pieces)]

    def bits(self, from_ns: int, to_ns: int) -> int:
        """The amount that is transmitted in between."""
        return self._upto(to_ns) - self._upto(from_ns)

    def when(self, from_ns: int, amount: int) -> int:
        """The time at which `amount` has been transmitted since `from_ns`."""
        if amount == 0:
            return from_ns
        periods, rest = divmod(self._upto(from_ns) + amount - 1, self._amounts[-1])
        piece = bisect_right(self._amounts, rest) - 1
        into_ns = -(-(rest + 1 - self._amounts[piece]) // self._rates[piece])
        return periods * self._starts[-1] + self._starts[piece] + into_ns

    def _upto(self, time_ns: int) -> int:
        """The amount from 0 to `time_ns`."""
        periods, rest = divmod(time_ns, self._starts[-1])
        piece = bisect_right(self._starts, rest) - 1
        return periods * self._amounts[-1] + self._amounts[piece] + (rest - self._starts[piece]) * self._rates[piece]


def _check_share(name: str, value: float) -> None:
    if not (0 <= value <= 1):
        raise ThalwegError(f"{name} is {value}, expected a share of 0…1")
