"""Frames of an append-only file. Each has separate checksums for head and body.

    frame  = kind u8, 3 zero bytes, body length u32, CRC-32 of the body u32, CRC-32 of the 12 bytes before u32, body

All numbers are little-endian. Because the head has its own checksum, a damaged body loses only its frame; a damaged
head loses the bytes up to the next valid head.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_HEAD = struct.Struct("<c3xII")
_CHECK = struct.Struct("<I")
MOST_FALSE = 100_000
"""Most false heads in one search: more are an attack rather than damage, and cost microseconds each."""
HEAD_BYTES = _HEAD.size + _CHECK.size


def frame_head(kind: bytes, body: Sequence[Any]) -> bytes:
    """The head of a frame whose body is these buffers, one after the other."""
    check = length = 0
    for part in body:
        check = zlib.crc32(part, check)
        length += memoryview(part).nbytes
    head = _HEAD.pack(kind, length, check)
    return head + _CHECK.pack(zlib.crc32(head))


def head_of(head: bytes | memoryview) -> tuple[bytes, int, int] | None:
    """Kind, length of the body and its CRC-32; None if the checksum of the head is wrong."""
    if _CHECK.unpack_from(head, _HEAD.size)[0] != zlib.crc32(head[: _HEAD.size]):
        return None
    kind, length, check = _HEAD.unpack_from(head)
    return kind, length, check


@dataclass(frozen=True, slots=True)
class Frame:
    """A valid frame: its body, and where it begins and ends."""

    kind: bytes
    body: memoryview
    at: int
    end: int


def whole_frames(data: bytes | memoryview, at: int, kinds: bytes) -> Iterator[Frame]:
    """Every valid frame from byte `at` on, of one of the `kinds`. Damaged or incomplete frames are skipped, up to
    `MOST_FALSE`.
    """
    false = 0
    view = memoryview(data)
    text = bytes(data) if not isinstance(data, bytes) else data
    while at + HEAD_BYTES <= len(view) and false < MOST_FALSE:
        head = head_of(view[at : at + HEAD_BYTES])
        if head is None or head[0] not in kinds:
            at = _next_head(text, at + 1, kinds)
            false += 1
            continue
        kind, length, check = head
        begin, end = at + HEAD_BYTES, at + HEAD_BYTES + length
        if end > len(view):  # cut short; or of a length that was never written, with a check that fits by chance
            at = _next_head(text, at + 1, kinds)
            false += 1
            continue
        body = view[begin:end]
        if zlib.crc32(body) == check:
            yield Frame(kind, body, at, end)
        at = end


def _next_head(text: bytes, at: int, kinds: bytes) -> int:
    """Where the next head may begin; the end where there is none."""
    found = [text.find(bytes((kind, 0, 0, 0)), at) for kind in kinds]
    return min((place for place in found if place >= 0), default=len(text))
