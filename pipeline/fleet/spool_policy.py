"""What a spool keeps when its budget is exceeded: three classes, each with a reserve, and the order of eviction.

Theory of operation. Data is stored in segments, files that are removed as a whole. Each class has a reserve that others
never use, so the sum over classes of `max(used, reserve)` stays within the budget:

    a record of   fits its own reserve   else, oldest segments first, give way        else
    EVENTS        accepted               media above its reserve, telemetry above its  refused, and its sender is told
    TELEMETRY     accepted               media above its reserve, then telemetry       refused
    MEDIA         accepted               media                                         refused

Events that were acknowledged are never evicted; so a spool full of them refuses new ones with an error. Each eviction
is reported to the hub as a loss. Segments that are being written are not evicted; their writer closes them while they
are small compared with the budget. No I/O here: sizes come in, names of segments go out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from thalweg.pipeline.errors import ThalwegError


class SpoolClass(Enum):
    """How much it matters that something arrives. EVENTS are on the disk before they are acknowledged; TELEMETRY within
    two seconds; MEDIA when the system writes it, which may take half a minute.
    """

    EVENTS = "events"
    TELEMETRY = "telemetry"
    MEDIA = "media"


GIVES_WAY: Final[Mapping[SpoolClass, tuple[SpoolClass, ...]]] = {
    SpoolClass.EVENTS: (SpoolClass.MEDIA, SpoolClass.TELEMETRY),
    SpoolClass.TELEMETRY: (SpoolClass.MEDIA, SpoolClass.TELEMETRY),
    SpoolClass.MEDIA: (SpoolClass.MEDIA,),
}
"""Class of what comes → classes that lose segments for it, in this order."""

RESERVED: Final[Mapping[SpoolClass, float]] = {
    SpoolClass.EVENTS: 0.25,
    SpoolClass.TELEMETRY: 0.15,
    SpoolClass.MEDIA: 0.05,
}
"""Shares of the budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The answer to a record. `remove`: segments to be removed first, oldest first."""

    accepted: bool
    remove: tuple[str, ...] = ()


@dataclass(slots=True)
class _Stored:
    kind: SpoolClass
    size: int
    closed: bool = False


@dataclass(slots=True)
class SpoolPolicy:
    """Told of every segment and asked before every record. `budget`: bytes in all.

    Raises ThalwegError where reserves leave nothing.
    """

    budget: int
    reserved: Mapping[SpoolClass, float] = field(default_factory=lambda: RESERVED)
    _segments: dict[str, _Stored] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.budget > 0 or not 0 <= sum(self.reserved.values()) <= 1:
            raise ThalwegError(f"a spool of {self.budget} bytes with reserves {dict(self.reserved)} holds nothing")

    def used(self, kind: SpoolClass) -> int:
        """Bytes of one class."""
        return sum(stored.size for stored in self._segments.values() if stored.kind is kind)

    def reserve(self, kind: SpoolClass) -> int:
        """Bytes that are kept free for one class."""
        return int(self.budget * self.reserved.get(kind, 0.0))

    def begin(self, name: str, kind: SpoolClass, size: int = 0, *, closed: bool = False) -> None:
        """There is a segment; the order in which they begin is that of their age."""
        self._segments[name] = _Stored(kind, size, closed)

    def grow(self, name: str, size: int) -> None:
        """Something was appended."""
        self._segments[name].size += size

    def close(self, name: str) -> None:
        """Nothing more is appended."""
        self._segments[name].closed = True

    def gone(self, name: str) -> None:
        """It was removed: given up, or all of it is with the hub. Idempotent."""
        self._segments.pop(name, None)

    def room(self, kind: SpoolClass, size: int) -> Room:
        """Whether a record may be stored, and at whose cost. Nothing changes until `grow` and `gone` are told."""
        sizes = {each: self.used(each) for each in SpoolClass}
        sizes[kind] += size
        remove: list[str] = []
        while sum(max(sizes[each], self.reserve(each)) for each in SpoolClass) > self.budget:
            name = self._next(kind, sizes, remove)
            if name is None:
                return Room(accepted=False)
            remove.append(name)
            sizes[self._segments[name].kind] -= self._segments[name].size
        return Room(accepted=True, remove=tuple(remove))

    def _next(self, kind: SpoolClass, sizes: Mapping[SpoolClass, int], removed: list[str]) -> str | None:
        for victim in GIVES_WAY[kind]:
            if sizes[victim] <= self.reserve(victim):
                continue
            for name, stored in self._segments.items():
                if stored.kind is victim and stored.closed and stored.size and name not in removed:
                    return name
        return None
