"""How exact joins, latest ones and windows choose their sets: a `pop` each over what is held; see `join.py`.

Each returns one set, or drops packets that no later set can use and returns None. Packets of a port come in order of
time, so they are only taken from the front: a packet costs O(1) amortised, times the number of ports, and in Window
O(1) more for every set of its window.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from thalweg.pipeline.joins.buffers import Item, JoinBuffers
from thalweg.pipeline.joins.joined import END, JoinDrop, PacketSet
from thalweg.pipeline.packet import AMBIENT


def _time(item: Item) -> int:
    return item.packet.time


class ExactJoin(JoinBuffers):
    """One packet per port, of one time."""

    def pop(self) -> PacketSet | None:
        """The oldest set that is decided, or None."""
        lines = self._lines
        while True:
            bound = max(_time(line.items[0]) if line.items else self._reach(line) for line in lines.values())
            behind = [port for port, line in lines.items() if line.items and _time(line.items[0]) < bound]
            for port in behind:
                self._let_go_before(port, bound)
            if behind:
                continue
            if not all(line.items for line in lines.values()):
                return None
            newest = max(line.items[0].packet.epoch for line in lines.values())
            older = [port for port, line in lines.items() if line.items[0].packet.epoch not in (AMBIENT, newest)]
            for port in older:
                self._let_go(self._next(port), JoinDrop.UNMATCHED)
            if not older:
                chosen = {port: self._next(port) for port in self.ports}
                joined = self._deliver(int(bound), {port: (item,) for port, item in chosen.items()})
                for item in chosen.values():
                    self._let_go(item, JoinDrop.UNMATCHED)
                return joined


class LatestJoin(JoinBuffers):
    """Each packet of the triggering ports with what was newest on the others.

    Processes all ports as one stream in order of time, in rounds of packets of equal times, one per port. Of earlier
    packets a port keeps its newest AMBIENT one and, if that is newer still, its newest one of a turn.
    """

    def __init__(
        self, declared: str, ports: Sequence[str], capacity: int, patience_ns: int | None, *, triggers: Collection[str]
    ) -> None:
        super().__init__(declared, ports, capacity, patience_ns)
        self._triggers = triggers

    def pop(self) -> PacketSet | None:
        """The oldest set that is decided, or None."""
        lines = self._lines
        while (
            time_ns := min((_time(line.items[0]) for line in lines.values() if line.items), default=None)
        ) is not None:
            if any(not line.items and self._reach(line) <= time_ns for line in lines.values()):
                return None
            round_ports = [port for port, line in lines.items() if line.items and _time(line.items[0]) == time_ns]
            fresh = {port: item for port in round_ports if (item := self._look_at(port)) is not None}
            joined = self._set_of({port: item for port, item in fresh.items() if port in self._triggers}, time_ns)
            if len(self._triggers) == 1:
                self._empty_kept(self._triggers)
            if joined is not None:
                return joined
        if all(lines[port].watermark == END for port in self._triggers):
            self._empty_kept(self.ports)
        return None

    def _look_at(self, port: str) -> Item | None:
        """Move the next packet of a port to what it keeps; None if it is of an older turn than one before it."""
        line, item = self._lines[port], self._next(port)
        epoch = item.packet.epoch
        if epoch != AMBIENT and epoch < line.highest:
            self._let_go(item, JoinDrop.UNMATCHED)
            return None
        line.highest = max(line.highest, epoch)
        for old in line.kept:
            if epoch == AMBIENT or old.packet.epoch != AMBIENT:
                self._let_go(old, JoinDrop.UNMATCHED)
        line.kept = [old for old in line.kept if epoch != AMBIENT and old.packet.epoch == AMBIENT] + [item]
        return item

    def _set_of(self, triggers: dict[str, Item], time_ns: int) -> PacketSet | None:
        if not triggers or not all(line.kept for line in self._lines.values()):
            return None
        epoch = max(item.packet.epoch for item in triggers.values())
        if epoch == AMBIENT:
            epoch = max(line.kept[-1].packet.epoch for line in self._lines.values())
        chosen: dict[str, tuple[Item]] = {}
        for port in (*triggers, *(port for port in self.ports if port not in triggers)):
            fitting = [item for item in self._lines[port].kept if item.packet.epoch in (AMBIENT, epoch)]
            if not fitting:
                return None
            chosen[port] = (fitting[-1],)
        return self._deliver(time_ns, chosen)

    def _empty_kept(self, ports: Collection[str]) -> None:
        for port in ports:
            for item in self._lines[port].kept:
                self._let_go(item, JoinDrop.UNMATCHED)
            self._lines[port].kept = []


class WindowJoin(JoinBuffers):
    """Everything within a stretch of time, per epoch."""

    def __init__(
        self, declared: str, ports: Sequence[str], capacity: int, patience_ns: int | None, *, size_ns: int, hop_ns: int
    ) -> None:
        super().__init__(declared, ports, capacity, patience_ns)
        self._size_ns = size_ns
        self._hop_ns = hop_ns
        self._window: int | None = None  # the first that was not given out in full
        self._given: int | None = None  # the last epoch of it that was

    def pop(self) -> PacketSet | None:
        """The set of the oldest window that every port has passed, or None."""
        while True:
            earliest = min((_time(line.items[0]) for line in self._lines.values() if line.items), default=None)
            if earliest is None:
                return None
            first = (earliest - self._size_ns) // self._hop_ns + 1
            if self._window is None or first > self._window:
                window, given = first, None
            else:
                window, given = self._window, self._given
            start, end = window * self._hop_ns, window * self._hop_ns + self._size_ns
            if min(self._reach(line) for line in self._lines.values()) < end:
                return None
            joined = self._give(window, given, start, end)
            if joined is not None:
                return joined

    def _give(self, window: int, given: int | None, start: int, end: int) -> PacketSet | None:
        """The set of the next epoch in a window; after the last one the window is done with."""
        inside: dict[str, list[Item]] = {}
        for port, line in self._lines.items():
            inside[port] = []
            for item in line.items:
                if _time(item) >= end:
                    break
                inside[port].append(item)
        epochs = {item.packet.epoch for items in inside.values() for item in items}
        turns = sorted(epoch for epoch in epochs if epoch > (given or AMBIENT))
        joined = None
        if turns or given is None:
            wanted = (AMBIENT, turns[0] if turns else AMBIENT)
            joined = self._deliver(
                start, {port: [i for i in items if i.packet.epoch in wanted] for port, items in inside.items()}
            )
        if len(turns) > 1:
            self._window, self._given = window, turns[0]
        else:
            self._window, self._given = window + 1, None
            for port in self.ports:
                self._let_go_before(port, start + self._hop_ns)
        return joined

    def snapshot(self) -> dict[str, Any]:
        """See `Join.snapshot`."""
        return super().snapshot() | {"window": [self._window, self._given]}

    def restore(self, state: Any) -> None:
        """See `Join.restore`."""
        super().restore(state)
        self._window, self._given = state["window"]
