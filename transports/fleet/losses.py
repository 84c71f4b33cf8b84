"""What a node tells its hub of records that are lost: records of a stream of their own."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import msgpack

from thalweg.pipeline.decoding import decoder
from thalweg.transports.fleet.segment import SpoolError

LOSSES: Final = "~losses"
ROOM, DISK_FULL, DAMAGED, GONE, OTHER = REASONS = ("room", "disk full", "damaged", "gone", "other")
"""Why a record is lost: it gave way, on a spool or a disk that was full; a segment was damaged; a hub was restored."""
Loss = tuple[int, str, int, int, str]
"""Boot, stream, first number, number behind the last, one of `REASONS`."""


def told_losses(payloads: Iterable[bytes | memoryview]) -> list[Loss]:
    """What records of the stream `LOSSES` say; those that say nothing are left out, since a node may send anything."""
    found = []
    for payload in payloads:
        with suppress(SpoolError):
            if (loss := read_loss(bytes(payload))) is not None:
                found.append(loss)
    return found


@decoder(SpoolError, "a record of a loss")
def read_loss(payload: bytes) -> Loss | None:
    """One of them; None where it is none. Raises SpoolError where it cannot be read."""
    match msgpack.unpackb(payload, use_list=False):
        case (int() as boot, str() as stream, int() as first, int() as end, str() as why):
            names = 0 <= boot < 1 << 32 and 0 < len(stream.encode()) < 256
            if names and 0 <= first < end:
                return boot, stream, first, end, why if why in REASONS else OTHER
    return None
