"""Frames that cost processor time: the same work on every machine, so that what a machine may use decides how long."""

from __future__ import annotations

import hashlib
from typing import Final

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context

PIECE: Final = bytes(1 << 18)
LASTS_NS: Final = 60_000_000_000


def work(pieces: int) -> None:
    """SHA-256 of so many pieces of 256 kB; some 0.2 ms each."""
    found = hashlib.sha256()
    for _ in range(pieces):
        found.update(PIECE)
    found.digest()


class Hashing:
    """A frame in, its number out, after the work of `pieces`."""

    inputs = {"token": Token}
    outputs = {"token": Token}
    blocking = True
    replicable = "stateless"

    def __init__(self, pieces: int = 1) -> None:
        self._pieces = pieces

    def process(self, packet: Packet[Token], ctx: Context) -> None:
        """One frame."""
        work(self._pieces)
        ctx.emit(Token(text=packet.payload.text.split()[0]), deadline=packet.time + LASTS_NS)
