"""What a node and a worker that is lent to it say to each other, over one TLS connection that the node opens.

Frames: a length (u32, little-endian), then a MessagePack list whose first element says what it is. Packets are records
of `transports.codec`, states those of `transports.state`.

    node    lease     version, stage class, settings, whether it is stateful       the first frame
            ping      number
            begin     generation, state or None      from now on packets are of this generation
            packet    generation, number, record     they are processed in this order, one at a time
            probe     number, record                 processed, and nothing comes of it but how long that took
            signal    bytes
            configure settings
            declare   settings                       from the next sample on; to a stage that has `declare`
    worker  open      seconds without a frame after which the lease ends          the stage is open
            refused   why
            pong      number
            part      generation, number, results    of the packet in hand, as they come: those that are there by now
            answer    generation, number, results, ns of computing, state or None, why it failed or ""
            probed    number, ns of computing
            signal    bytes, up | down | both
            report    what the stage says of the packet in hand
            failed    generation, why                the stage cannot go on from that state

A result is a record whose stream is the port, with the deadline that the stage gave, or none. It comes once: in a part,
or, the rest, with the answer.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any, Final

import msgpack

from thalweg.pipeline.decoding import decoder
from thalweg.transports.link import TransportError
from thalweg.transports.packing import unpack

VERSION: Final = 2
LARGEST: Final = 32 << 20
LENGTH = struct.Struct("<I")
LEASE_S: Final = 10.0


class LeaseError(TransportError):
    """The other end said what is no frame of a lease."""


def frame(*parts: Any) -> bytes:
    """A frame as bytes. Raises LeaseError on one that is too large."""
    body: bytes = msgpack.packb(parts)
    if len(body) > LARGEST:
        raise LeaseError(
            f"a frame of {len(body) / 1e6:.0f} MB is too large for a lent worker, at most {LARGEST >> 20} MiB"
        )
    return LENGTH.pack(len(body)) + body


@decoder(LeaseError, "the frame")
def parts_of(body: bytes) -> tuple[Any, ...]:
    """What is in a frame. Raises LeaseError."""
    found = unpack(body)
    if not isinstance(found, tuple) or not found or not isinstance(found[0], str):
        raise LeaseError("a list that begins with what it is was expected")
    return found


async def next_frame(reader: asyncio.StreamReader) -> tuple[Any, ...]:
    """The next frame. Raises IncompleteReadError at the end, LeaseError on what is none."""
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > LARGEST:
        raise LeaseError(f"a frame of {length / 1e6:.0f} MB was announced, at most {LARGEST >> 20} MiB are read")
    return parts_of(await reader.readexactly(length))
