"""Matching packets of several streams by their capture times.

Theory of operation. A joiner holds what each port has received and not yet outlived. A port's watermark is a
promise: nothing with an earlier capture time will come there. Packets of a port come in time order, so each
one moves the watermark to its own time; the end of a stream moves it to infinity. A decision is taken as soon
as the watermarks prove that no packet still to come could change it, and so does not depend on which port was
served first. (`Latest` is the exception, and says so.)

    kind      a set is                                          decided when
    Exact     one packet per port, all of the same time         each port has one, or its watermark has passed
    Nearest   each packet of `reference` with the nearest one   no nearer one can come on any port
              of every other port, at most `tolerance` away
    Latest    each packet of `trigger` with the newest one of   at once: for what must not wait
              every other port that has come so far
    Window    all packets with times in [k·hop, k·hop + size)   every watermark has passed the window

Packets of two different epochs never meet; AMBIENT ones meet any. A packet leaves a joiner delivered, in one
set or several, or dropped for one reason: at any moment `pushed == held + delivered + sum(drops)`.

`patience_ns`: a port that lies this far behind the foremost is not waited for any longer; without it a port
that falls silent holds up the others until `capacity` packets per port are held, and then drops the oldest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import AMBIENT, Packet

END = math.inf


class JoinError(ThalwegError):
    """A join declared with values that make no sense."""


class JoinDrop(Enum):
    """Why a packet left a joiner without being in any set."""

    UNMATCHED = "unmatched"
    LATE = "late"
    OVERFLOW = "overflow"
    STALE = "stale"


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Packets that belong together, by port. Stands in for a packet where something is emitted because of it.

    `time`, `epoch`: of the reference, the trigger or the window's start; the newest epoch in it. `deadline`:
    the earliest of its packets. `stream`, `seq`: for traces.
    """

    time: int
    epoch: int
    packets: Mapping[str, tuple[Packet, ...]]
    deadline: int | None
    trace: str | None
    seq: int
    stream: str = "join"

    def one(self, port: str) -> Packet:
        """The packet of a port that has exactly one."""
        (packet,) = self.packets[port]
        return packet


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """What all kinds of joins have. Write one as the class attribute `join` of a stage."""

    capacity: int = 256
    patience_ns: int | None = None

    def start(self, ports: Sequence[str]) -> Joiner:
        """The running joiner for these ports. Raises JoinError where the declaration does not fit them."""
        return Joiner(ports, self, self._step_for(ports))

    def _step_for(self, ports: Sequence[str]) -> Callable[[Joiner], Joined | None]:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact(Join):
    """Equal times."""

    def _step_for(self, ports: Sequence[str]) -> Callable[[Joiner], Joined | None]:
        return _exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest(Join):
    """Nearest in time to each packet of `reference`; of two equally near ones the earlier."""

    reference: str
    tolerance_ns: int

    def _step_for(self, ports: Sequence[str]) -> Callable[[Joiner], Joined | None]:
        if self.reference not in ports or self.tolerance_ns < 0:
            raise JoinError(f"{self} needs a reference among {', '.join(ports)} and a tolerance of 0 or more")
        return lambda joiner: _nearest(joiner, self.reference, self.tolerance_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest(Join):
    """The newest that has come when a packet of `trigger` does; before every port has had one, none is complete."""

    trigger: str

    def _step_for(self, ports: Sequence[str]) -> Callable[[Joiner], Joined | None]:
        if self.trigger not in ports:
            raise JoinError(f"{self} needs a trigger among {', '.join(ports)}")
        return lambda joiner: _latest(joiner, self.trigger)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window(Join):
    """Stretches of time; without `hop_ns` they lie end to end. Those in which nothing came are left out."""

    size_ns: int
    hop_ns: int | None = None

    def _step_for(self, ports: Sequence[str]) -> Callable[[Joiner], Joined | None]:
        hop_ns = self.size_ns if self.hop_ns is None else self.hop_ns
        if not 0 < hop_ns <= self.size_ns:
            raise JoinError(f"{self} needs 0 < hop_ns ≤ size_ns")
        return lambda joiner: _window(joiner, self.size_ns, hop_ns)


class _Held:
    """A packet in a joiner, and whether it has been in a set."""

    __slots__ = ("delivered", "packet")

    def __init__(self, packet: Packet, delivered: bool = False) -> None:
        self.packet = packet
        self.delivered = delivered


class Joiner:
    """The state of a join. `drops` counts by reason; `delivered` counts packets that left after being in a set."""

    def __init__(self, ports: Sequence[str], join: Join, step: Callable[[Joiner], Joined | None]) -> None:
        self.ports = tuple(ports)
        self.held: dict[str, list[_Held]] = {port: [] for port in ports}
        self.watermarks: dict[str, float] = dict.fromkeys(ports, -END)
        self.pushed = 0
        self.delivered = 0
        self.drops = dict.fromkeys(JoinDrop, 0)
        self.next_window: int | None = None
        self._join = join
        self._step = step
        self._floor = AMBIENT
        self._seq = 0

    @property
    def depth(self) -> int:
        """Packets held."""
        return sum(map(len, self.held.values()))

    def push(self, port: str, packet: Packet) -> None:
        """Take a packet. One before its port's watermark is dropped as LATE."""
        self.pushed += 1
        if packet.epoch != AMBIENT and packet.epoch < self._floor:
            self.drops[JoinDrop.STALE] += 1
        elif packet.time < self.reach(port):
            self.drops[JoinDrop.LATE] += 1
        else:
            self.watermarks[port] = max(self.watermarks[port], packet.time)
            held = self.held[port]
            held.append(_Held(packet))
            if len(held) > self._join.capacity:
                self.let_go(port, 1, JoinDrop.OVERFLOW)

    def watermark(self, port: str, time_ns: float) -> None:
        """Nothing earlier than `time_ns` will come on `port`."""
        self.watermarks[port] = max(self.watermarks[port], time_ns)

    def close(self, port: str) -> None:
        """Nothing will come on `port` any more. Idempotent."""
        self.watermarks[port] = END

    def pop(self) -> Joined | None:
        """The next set that is decided, or None. After the end of every port, None also drops what is left."""
        joined = self._step(self)
        if joined is None and all(mark == END for mark in self.watermarks.values()):
            for port in self.ports:
                self.let_go(port, len(self.held[port]), JoinDrop.UNMATCHED)
        return joined

    def raise_epoch(self, epoch: int) -> None:
        """From now on packets of an epoch below `epoch` are stale, the held ones too."""
        if epoch <= self._floor:
            return
        self._floor = epoch
        for port in self.ports:
            self._remove(port, lambda held: held.packet.epoch == AMBIENT or held.packet.epoch >= epoch, JoinDrop.STALE)

    def reach(self, port: str) -> float:
        """The watermark of a port, its own or the one that patience sets."""
        if self._join.patience_ns is None:
            return self.watermarks[port]
        foremost = max((mark for mark in self.watermarks.values() if mark != END), default=-END)
        return max(self.watermarks[port], foremost - self._join.patience_ns)

    def let_go(self, port: str, n: int, reason: JoinDrop) -> None:
        """Forget the `n` oldest packets of a port: delivered ones as such, the others dropped."""
        for held in self.held[port][:n]:
            self._left(held, reason)
        del self.held[port][:n]

    def let_go_before(self, port: str, time_ns: float, reason: JoinDrop) -> None:
        """Forget every packet of a port with an earlier time."""
        n = 0
        for held in self.held[port]:
            if held.packet.time >= time_ns:
                break
            n += 1
        self.let_go(port, n, reason)

    def let_go_of_epoch(self, port: str, epoch: int, time_ns: float) -> None:
        """Forget every packet of a port that is of this epoch and earlier than `time_ns`."""
        self._remove(port, lambda h: h.packet.epoch != epoch or h.packet.time >= time_ns, JoinDrop.UNMATCHED)

    def deliver(self, time_ns: int, chosen: Mapping[str, Iterable[_Held]]) -> Joined:
        """Make a set, and mark what is in it."""
        packets = {}
        for port, members in chosen.items():
            members = list(members)
            for held in members:
                held.delivered = True
            packets[port] = tuple(held.packet for held in members)
        together = [packet for members in packets.values() for packet in members]
        deadlines = [packet.deadline for packet in together if packet.deadline is not None]
        self._seq += 1
        return Joined(
            time=time_ns,
            epoch=max(packet.epoch for packet in together),
            packets=packets,
            deadline=min(deadlines, default=None),
            trace=next((packet.trace for packet in together if packet.trace is not None), None),
            seq=self._seq - 1,
        )

    def snapshot(self) -> dict[str, Any]:
        """The whole state; a joiner restored from it goes on as this one would."""
        return {
            "held": {port: [(h.packet, h.delivered) for h in held] for port, held in self.held.items()},
            "watermarks": dict(self.watermarks),
            "counts": (self.pushed, self.delivered, dict(self.drops), self.next_window, self._floor, self._seq),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self.held = {port: [_Held(*entry) for entry in held] for port, held in state["held"].items()}
        self.watermarks = dict(state["watermarks"])
        self.pushed, self.delivered, drops, self.next_window, self._floor, self._seq = state["counts"]
        self.drops = dict(drops)

    def _remove(self, port: str, keep: Callable[[_Held], bool], reason: JoinDrop) -> None:
        for held in self.held[port]:
            if not keep(held):
                self._left(held, reason)
        self.held[port] = [held for held in self.held[port] if keep(held)]

    def _left(self, held: _Held, reason: JoinDrop) -> None:
        if held.delivered:
            self.delivered += 1
        else:
            self.drops[reason] += 1


def _fits(a: Packet, b: Packet) -> bool:
    return a.epoch == b.epoch or AMBIENT in (a.epoch, b.epoch)


def _exact(joiner: Joiner) -> Joined | None:
    while True:
        heads = {port: held[0] for port, held in joiner.held.items() if held}
        if not heads:
            return None
        bounds = [heads[port].packet.time if port in heads else joiner.reach(port) for port in joiner.ports]
        bound = max(bounds)
        behind = [port for port, held in heads.items() if held.packet.time < bound]
        for port in behind:
            joiner.let_go(port, 1, JoinDrop.UNMATCHED)
        if behind:
            continue
        if len(heads) < len(joiner.ports):
            return None
        newest = max(held.packet.epoch for held in heads.values())
        older = [port for port, held in heads.items() if held.packet.epoch not in (AMBIENT, newest)]
        for port in older:
            joiner.let_go(port, 1, JoinDrop.UNMATCHED)
        if not older:
            joined = joiner.deliver(int(bound), {port: [held] for port, held in heads.items()})
            for port in joiner.ports:
                joiner.let_go(port, 1, JoinDrop.UNMATCHED)
            return joined


def _nearest(joiner: Joiner, reference: str, tolerance_ns: int) -> Joined | None:
    others = [port for port in joiner.ports if port != reference]
    while joiner.held[reference]:
        first = joiner.held[reference][0]
        time_ns = first.packet.time
        chosen = {reference: [first]}
        waiting = hopeless = False
        for port in others:
            near = [h for h in joiner.held[port] if _fits(h.packet, first.packet)]
            best = min(near, key=lambda h: (abs(h.packet.time - time_ns), h.packet.time), default=None)
            distance = abs(best.packet.time - time_ns) if best is not None else END
            ahead = joiner.reach(port) - time_ns
            if best is not None and distance <= tolerance_ns:
                chosen[port] = [best]
                waiting = waiting or ahead < distance
            elif ahead > tolerance_ns:
                hopeless = True
            else:
                waiting = True
        if hopeless:
            joiner.let_go(reference, 1, JoinDrop.UNMATCHED)
        elif waiting:
            break
        else:
            joined = joiner.deliver(time_ns, chosen)
            joiner.let_go(reference, 1, JoinDrop.UNMATCHED)
            return joined
    held = joiner.held[reference]
    earliest = held[0].packet.time if held else joiner.reach(reference)
    for port in others:
        joiner.let_go_before(port, earliest - tolerance_ns, JoinDrop.UNMATCHED)
    return None


def _latest(joiner: Joiner, trigger: str) -> Joined | None:
    others = [port for port in joiner.ports if port != trigger]
    while joiner.held[trigger]:
        first = joiner.held[trigger][0]
        chosen = {trigger: [first]}
        for port in others:
            fitting = [h for h in joiner.held[port] if _fits(h.packet, first.packet)]
            if fitting:
                chosen[port] = [fitting[-1]]
        complete = len(chosen) == len(joiner.ports)
        joined = joiner.deliver(first.packet.time, chosen) if complete else None
        joiner.let_go(trigger, 1, JoinDrop.UNMATCHED)
        if joined is not None:
            return joined
    for port in others:  # of each epoch only the newest can still be wanted
        last_of = {held.packet.epoch: held for held in joiner.held[port]}
        joiner._remove(port, lambda held, last_of=last_of: last_of[held.packet.epoch] is held, JoinDrop.UNMATCHED)  # type: ignore[misc]
    return None


def _window(joiner: Joiner, size_ns: int, hop_ns: int) -> Joined | None:
    reached = min(joiner.reach(port) for port in joiner.ports)
    while True:
        times = [held[0].packet.time for held in joiner.held.values() if held]
        if not times:
            return None
        first = (min(times) - size_ns) // hop_ns + 1
        k = first if joiner.next_window is None else max(first, joiner.next_window)
        start, end = k * hop_ns, k * hop_ns + size_ns
        inside = {p: [h for h in held if start <= h.packet.time < end] for p, held in joiner.held.items()}
        epochs = sorted({h.packet.epoch for held in inside.values() for h in held} - {AMBIENT}) or [AMBIENT]
        if reached < end:
            return None
        if len(epochs) > 1:  # one set per epoch: the older ones first, and the window again for the newest
            chosen = {p: [h for h in held if h.packet.epoch in (AMBIENT, epochs[0])] for p, held in inside.items()}
            older = joiner.deliver(start, chosen)
            for port in joiner.ports:
                joiner.let_go_of_epoch(port, epochs[0], end)
            return older
        joiner.next_window = k + 1
        found = any(inside.values())
        joined = joiner.deliver(start, inside) if found else None
        for port in joiner.ports:
            joiner.let_go_before(port, (k + 1) * hop_ns, JoinDrop.UNMATCHED)
        if joined is not None:
            return joined
