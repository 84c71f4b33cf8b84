"""How a nearest join chooses its sets; see `join.py`.

References are processed in order of time, so partners are dropped from the front once all later references lie more
than the tolerance beyond them. A partner is found in O(log held) by bisection. An index has one row per epoch, because
the nearest packet may be of an epoch that the reference must not match.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from enum import Enum

from thalweg.pipeline.joins.buffers import Item, JoinBuffers
from thalweg.pipeline.joins.joined import JoinDrop, PacketSet
from thalweg.pipeline.packet import AMBIENT


def _time(item: Item) -> int:
    return item.packet.time


class _Row:
    """Items in time order that are appended at one end, taken from the other, and searched: a list with a start."""

    __slots__ = ("items", "start")

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.start = 0

    def drop_first(self) -> None:
        self.start += 1
        if self.start * 2 > len(self.items):
            del self.items[: self.start]
            self.start = 0

    def around(self, time_ns: int) -> list[Item]:
        """The first item at or after `time_ns`, and the first of the time that comes last before it."""
        after = bisect_left(self.items, time_ns, self.start, key=_time)
        found = self.items[after : after + 1]
        if after > self.start:
            before = bisect_left(self.items, _time(self.items[after - 1]), self.start, after, key=_time)
            found.append(self.items[before])
        return found


class _Sought(Enum):
    WAIT = "a nearer one may still come"
    NONE = "there is none and none will come"


_ANY = -1  # the row with every epoch of a port


class NearestJoin(JoinBuffers):
    """Each packet of one port with the nearest of every other."""

    def __init__(
        self,
        declared: str,
        ports: Sequence[str],
        capacity: int,
        patience_ns: int | None,
        *,
        reference: str,
        tolerance_ns: int,
    ) -> None:
        super().__init__(declared, ports, capacity, patience_ns)
        self._reference = reference
        self._tolerance_ns = tolerance_ns
        self._others = [port for port in ports if port != reference]
        self._rows: dict[str, dict[int, _Row]] = {port: {} for port in self._others}

    def pop(self) -> PacketSet | None:
        """The set of the oldest reference packet if it is decided, or None."""
        line = self._lines[self._reference]
        while line.items:
            first = line.items[0]
            self._forget_for(_time(first))
            found = self._partners(first)
            if found is _Sought.WAIT:
                return None
            self._next(self._reference)
            joined = None
            if found is not _Sought.NONE:
                chosen = {self._reference: first, **found}
                joined = self._deliver(_time(first), {port: (item,) for port, item in chosen.items()})
            self._let_go(first, JoinDrop.UNMATCHED)
            if joined is not None:
                return joined
        self._forget_for(self._reach(line))
        return None

    def _partners(self, first: Item) -> dict[str, Item] | _Sought:
        time_ns, epoch = _time(first), first.packet.epoch
        if epoch != AMBIENT:
            return self._seek_all(time_ns, (epoch, AMBIENT))
        # An ambient reference goes with any epoch, but its partners must go with each other: the newest leads.
        found = self._seek_all(time_ns, (_ANY,))
        if isinstance(found, _Sought):
            return found
        newest = max((item.packet.epoch for item in found.values()), default=AMBIENT)
        return found if newest == AMBIENT else self._seek_all(time_ns, (newest, AMBIENT))

    def _seek_all(self, time_ns: int, epochs: tuple[int, ...]) -> dict[str, Item] | _Sought:
        found: dict[str, Item] = {}
        waiting = False
        for port in self._others:
            sought = self._seek(port, time_ns, epochs)
            if sought is _Sought.NONE:
                return sought
            if isinstance(sought, Item):
                found[port] = sought
            else:
                waiting = True
        return _Sought.WAIT if waiting else found

    def _seek(self, port: str, time_ns: int, epochs: tuple[int, ...]) -> Item | _Sought:
        rows = self._rows[port]
        near = [item for epoch in epochs if epoch in rows for item in rows[epoch].around(time_ns)]
        best = min(near, key=lambda item: (abs(_time(item) - time_ns), item.order), default=None)
        ahead = self._reach(self._lines[port]) - time_ns
        if best is not None and abs(_time(best) - time_ns) <= self._tolerance_ns:
            return best if ahead >= abs(_time(best) - time_ns) else _Sought.WAIT
        return _Sought.NONE if ahead > self._tolerance_ns else _Sought.WAIT

    def _forget_for(self, time_ns: float) -> None:
        for port in self._others:
            self._let_go_before(port, time_ns - self._tolerance_ns)

    def _entered(self, port: str, item: Item) -> None:
        if port != self._reference:
            for key in (_ANY, item.packet.epoch):
                self._rows[port].setdefault(key, _Row()).items.append(item)

    def _removed(self, port: str, item: Item) -> None:
        if port != self._reference:
            rows = self._rows[port]
            for key in (_ANY, item.packet.epoch):
                rows[key].drop_first()
                if not rows[key].items:
                    del rows[key]

    def _rebuilt(self) -> None:
        self._rows = {port: {} for port in self._others}
        for port in self._others:
            for item in self._lines[port].items:
                self._entered(port, item)
