"""What a join gives out, and its reasons for giving a packet up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import Packet

END = math.inf
"""The watermark of a port that has ended."""


class JoinError(ThalwegError, ValueError):
    """A join declared with values that make no sense, or told of a port or given a state that is not its own."""


class JoinDrop(Enum):
    """Why a packet left a join without having been in any set."""

    UNMATCHED = "unmatched"
    LATE = "late"
    OVERFLOW = "overflow"
    STALE = "stale"


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketSet:
    """Packets that belong together, by port. Stands in for a packet where something is emitted because of it.

    `time`: ns, of the reference, the trigger, or the window's start. `epoch`: the one epoch in it besides AMBIENT,
    or AMBIENT. `packets`: every port, in a window perhaps with none. `deadline`: the earliest of its packets.
    `trace`: of the reference or trigger, or else the first there is. `seq` counts the sets of one join.
    """

    time: int
    epoch: int
    packets: Mapping[str, tuple[Packet, ...]]
    deadline: int | None
    trace: str | None
    seq: int
    stream: str = "join"
    replay: ClassVar[None] = None  # a set is never sent again; its packets are

    def one(self, port: str) -> Packet:
        """The packet of a port that has exactly one. Raises ValueError where it has none or several."""
        (packet,) = self.packets[port]
        return packet
