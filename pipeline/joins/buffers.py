"""The buffers of a running join: the packets of each port, its watermarks, and the counters.

Theory of operation. In every kind of join a packet takes one path through this table, and is counted once:

    event                                        the packet is     counted in
    push, of an epoch below the floor            gone              drops[STALE]
    push, before its port's watermark            gone              drops[LATE]
    push, otherwise                              held              held
    one more than `capacity` on its port         gone, if oldest   drops[OVERFLOW], or delivered
    raise_epoch above its epoch                  gone              drops[STALE], or delivered
    found to be of no use to any set to come     gone              drops[UNMATCHED], or delivered

"Or delivered": a packet that was in a set stays held while it may be in another, and counts as delivered when it is
removed for any reason; only a packet that was in no set counts as dropped. Therefore, at any moment, `pushed == held +
delivered + sum(drops.values())`, and no packet is counted twice however many sets it was in.

`push`, `watermark` and `close` decide STALE, LATE and OVERFLOW; `pop` decides UNMATCHED.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from thalweg.pipeline.joins.joined import END, JoinDrop, JoinError, PacketSet
from thalweg.pipeline.packet import AMBIENT, Packet


class Item:
    """A held packet. `order` rises along its port; `delivered`: it was in a set."""

    __slots__ = ("delivered", "order", "packet")

    def __init__(self, packet: Packet, order: int, delivered: bool = False) -> None:
        self.packet = packet
        self.order = order
        self.delivered = delivered


class PortBuffer:
    """One port: `items` are packets not examined yet, `kept` older ones that were and are needed; oldest first."""

    __slots__ = ("highest", "items", "kept", "watermark")

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.kept: list[Item] = []
        self.watermark: float = -END
        self.highest = AMBIENT


class JoinBuffers:
    """The part of a join that does not depend on how sets are chosen."""

    def __init__(self, declared: str, ports: Sequence[str], capacity: int, patience_ns: int | None) -> None:
        if not ports or len(set(ports)) < len(ports):
            raise JoinError(f"{declared} was started with ports {list(ports)}, expected at least one, each once")
        self.ports = tuple(ports)
        self.pushed = 0
        self.delivered = 0
        self.held = 0
        self._declared = declared
        self._capacity = capacity
        self._patience_ns = patience_ns
        self._lines = {port: PortBuffer() for port in ports}
        self._drops = dict.fromkeys(JoinDrop, 0)
        self._foremost: float = -END
        self._floor = AMBIENT
        self._seq = 0

    @property
    def drops(self) -> Mapping[JoinDrop, int]:
        """A live view, with every reason."""
        return MappingProxyType(self._drops)

    @property
    def open_ports(self) -> tuple[str, ...]:
        """The ports that were not closed."""
        return tuple(port for port, line in self._lines.items() if line.watermark != END)

    def push(self, port: str, packet: Packet) -> None:
        """See `Join.push`."""
        line = self._line(port)
        self.pushed += 1
        if packet.epoch != AMBIENT and packet.epoch < self._floor:
            self._drops[JoinDrop.STALE] += 1
        elif packet.time < self._reach(line):
            self._drops[JoinDrop.LATE] += 1
        else:
            line.watermark = packet.time
            self._foremost = max(self._foremost, packet.time)
            item = Item(packet, self.pushed)
            line.items.append(item)
            self.held += 1
            self._entered(port, item)
            while len(line.kept) + len(line.items) > self._capacity:
                self._let_go(line.kept.pop(0) if line.kept else self._next(port), JoinDrop.OVERFLOW)

    def watermark(self, port: str, time_ns: int) -> None:
        """See `Join.watermark`."""
        line = self._line(port)
        line.watermark = max(line.watermark, time_ns)
        self._foremost = max(self._foremost, time_ns)

    def close(self, port: str) -> None:
        """See `Join.close`."""
        self._line(port).watermark = END

    def raise_epoch(self, epoch: int) -> int:
        """See `Join.raise_epoch`."""
        if epoch <= self._floor:
            return 0
        self._floor = epoch
        before = self._drops[JoinDrop.STALE]
        for line in self._lines.values():
            line.kept = self._without_stale(line.kept)
            line.items = deque(self._without_stale(line.items))
        self._rebuilt()
        return self._drops[JoinDrop.STALE] - before

    def snapshot(self) -> dict[str, Any]:
        """See `Join.snapshot`."""
        return {
            "join": self._declared,
            "lines": {
                port: {
                    "items": [(item.packet, item.order, item.delivered) for item in line.items],
                    "kept": [(item.packet, item.order, item.delivered) for item in line.kept],
                    "watermark": line.watermark,
                    "highest": line.highest,
                }
                for port, line in self._lines.items()
            },
            "drops": {reason.value: count for reason, count in self._drops.items()},
            "counts": [self.pushed, self.delivered, self._floor, self._seq],
            "foremost": self._foremost,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Join.restore`."""
        if state["join"] != self._declared or tuple(state["lines"]) != self.ports:
            raise JoinError(
                f"the snapshot is of {state['join']} on {', '.join(state['lines'])}, "
                f"expected {self._declared} on {', '.join(self.ports)}; restore it into a join declared alike"
            )
        for port, saved in state["lines"].items():
            line = self._lines[port]
            line.items = deque(Item(*entry) for entry in saved["items"])
            line.kept = [Item(*entry) for entry in saved["kept"]]
            line.watermark, line.highest = saved["watermark"], saved["highest"]
        self.held = sum(len(line.items) + len(line.kept) for line in self._lines.values())
        self._drops.update({reason: state["drops"][reason.value] for reason in JoinDrop})
        self.pushed, self.delivered, self._floor, self._seq = state["counts"]
        self._foremost = state["foremost"]
        self._rebuilt()

    def _line(self, port: str) -> PortBuffer:
        try:
            return self._lines[port]
        except KeyError:
            raise JoinError(f"{self._declared} was told of port {port!r}, expected {', '.join(self.ports)}") from None

    def _reach(self, line: PortBuffer) -> float:
        """No packet of this port before this time is awaited: its watermark, or the foremost one minus patience."""
        if self._patience_ns is None:
            return line.watermark
        return max(line.watermark, self._foremost - self._patience_ns)

    def _next(self, port: str) -> Item:
        """Take the oldest packet of a port that was not examined; the caller must release or keep it."""
        item = self._lines[port].items.popleft()
        self._removed(port, item)
        return item

    def _let_go(self, item: Item, reason: JoinDrop) -> None:
        """Count a packet that is no longer held."""
        self.held -= 1
        if item.delivered:
            self.delivered += 1
        else:
            self._drops[reason] += 1

    def _let_go_before(self, port: str, time_ns: float) -> None:
        """Forget every packet of a port with an earlier time."""
        items = self._lines[port].items
        while items and items[0].packet.time < time_ns:
            self._let_go(self._next(port), JoinDrop.UNMATCHED)

    def _deliver(self, time_ns: int, chosen: Mapping[str, Iterable[Item]]) -> PacketSet:
        """Make a set and mark what is in it; the port that gives it its trace comes first."""
        packets: dict[str, tuple[Packet, ...]] = {}
        for port, members in chosen.items():
            members = tuple(members)
            for item in members:
                item.delivered = True
            packets[port] = tuple(item.packet for item in members)
        together = [packet for members in packets.values() for packet in members]
        self._seq += 1
        return PacketSet(
            time=time_ns,
            epoch=max(packet.epoch for packet in together),
            packets=packets,
            deadline=min((packet.deadline for packet in together if packet.deadline is not None), default=None),
            trace=next((packet.trace for packet in together if packet.trace is not None), None),
            seq=self._seq - 1,
        )

    def _without_stale(self, items: Iterable[Item]) -> list[Item]:
        fresh = []
        for item in items:
            if item.packet.epoch == AMBIENT or item.packet.epoch >= self._floor:
                fresh.append(item)
            else:
                self._let_go(item, JoinDrop.STALE)
        return fresh

    def _entered(self, port: str, item: Item) -> None:
        """`item` is now the newest of its port; for an index to follow."""

    def _removed(self, port: str, item: Item) -> None:
        """`item`, the oldest of its port's `items`, is no longer among them; for an index to follow."""

    def _rebuilt(self) -> None:
        """What is held was replaced; for an index to be made anew."""
