"""The sets that a join returns, and its reasons to drop a packet."""

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
    """A join has invalid parameters, or got a port or a snapshot that is not its own."""


class JoinDrop(Enum):
    """Why a packet was dropped by a join: it was in no set."""

    UNMATCHED = "unmatched"
    LATE = "late"
    OVERFLOW = "overflow"
    STALE = "stale"


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketSet:
    """Matched packets, by port. It takes the place of a packet as the cause of emitted ones.

    `time`: ns, of the reference, the trigger, or the window's start. `epoch`: the one epoch in it besides AMBIENT,
    or AMBIENT. `packets`: every port, in a window perhaps with none. `deadline`: the earliest of its packets.
    `trace`: of the reference or trigger, or else the first one found. `seq` counts the sets of one join.
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
        """The only packet of a port. Raises ValueError if it has none or several."""
        (packet,) = self.packets[port]
        return packet
