"""Segments: files of records, each with its identity, appended to by one writer and never changed after.

    file    = magic (8 bytes), then frames (`transports.frames`) of kind R
    body    = boot u32, number u64, time i64, class u8, length of the stream's name u8, the name in UTF-8, payload

`boot`, `stream`, `number` say which record it is, of one node: numbers rise from 0 per stream since the node's agent
was started for the `boot`th time. `time`: ns since 1970, by the node's clock. The payload is opaque bytes. A frame
travels to the hub as it stands, and is stored there as it stands: it is checked at every step.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from thalweg.pipeline.decoding import decoder
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.transports.fleet.durable import sync_folder
from thalweg.transports.frames import frame_head, whole_frames

MAGIC = b"\x89TWS\r\n\x1a\n"
KIND = b"R"
LARGEST_PAYLOAD = 8 << 20
BY_CHANCE = 1 << 31
"""Boots from here on were taken by chance, on a disk that could not count them."""
_RECORD = struct.Struct("<IQqBB")
_CLASSES = tuple(SpoolClass)


class SpoolError(ThalwegError):
    """A record that cannot be stored, or bytes that are none; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One record."""

    kind: SpoolClass
    boot: int
    stream: str
    number: int
    time_ns: int
    payload: bytes | memoryview

    @property
    def key(self) -> tuple[int, str, int]:
        """The same when it comes again."""
        return self.boot, self.stream, self.number


def pack(stored: Stored) -> bytes:
    """A record as a frame. Raises SpoolError on one that cannot be written."""
    name = stored.stream.encode()
    if not 0 < len(name) < 256:
        raise SpoolError(f"stream {stored.stream[:40]!r} has a name of {len(name)} bytes, expected 1…255")
    if len(stored.payload) > LARGEST_PAYLOAD:
        raise SpoolError(f"a record of {len(stored.payload) / 1e6:.1f} MB: at most {LARGEST_PAYLOAD / 1e6:.1f} MB fit")
    head = _RECORD.pack(stored.boot, stored.number, stored.time_ns, _CLASSES.index(stored.kind), len(name))
    body = (head, name, stored.payload)
    return b"".join((frame_head(KIND, body), *body))


@decoder(SpoolError, "a record")
def read_record(body: bytes | memoryview) -> Stored:
    """What `pack` wrote, without its head. Raises SpoolError on anything else."""
    boot, number, time_ns, kind, length = _RECORD.unpack_from(body)
    at = _RECORD.size + length
    if not length or at > len(body) or kind >= len(_CLASSES):
        raise SpoolError("its name is longer than it is, or its class is none")
    stream = bytes(body[_RECORD.size : at]).decode()
    return Stored(kind=_CLASSES[kind], boot=boot, stream=stream, number=number, time_ns=time_ns, payload=body[at:])


@dataclass(frozen=True, slots=True)
class Found:
    """A record in a segment, and the bytes of its frame."""

    stored: Stored
    frame: memoryview
    end: int


def records(data: bytes, at: int = 0) -> Iterator[Found]:
    """The records in a piece of a segment, or of several frames sent; what is damaged is passed over."""
    view = memoryview(data)
    for frame in whole_frames(data, at, KIND):
        try:
            yield Found(read_record(frame.body), view[frame.at : frame.end], frame.end)
        except SpoolError:  # whole, and yet none of ours
            continue


Ranges = dict[tuple[int, str], list[int]]
"""(boot, stream) → [first number, number behind the last]."""


@dataclass(slots=True)
class Segment:
    """A segment that is there. `holes`: (boot, stream, first, behind the last) that are missing in between."""

    path: Path
    size: int = 0
    count: int = 0
    ranges: Ranges = field(default_factory=dict)
    holes: list[tuple[int, str, int, int]] = field(default_factory=list)

    def note(self, stored: Stored) -> None:
        """Take account of a record in it."""
        self.count += 1
        known = self.ranges.get((stored.boot, stored.stream))
        if known is None:
            self.ranges[stored.boot, stored.stream] = [stored.number, stored.number + 1]
            return
        if stored.number > known[1]:
            self.holes.append((stored.boot, stored.stream, known[1], stored.number))
        known[0], known[1] = min(known[0], stored.number), max(known[1], stored.number + 1)

    @classmethod
    def read(cls, path: Path) -> Segment:
        """One that a process before has left. Raises OSError."""
        data = path.read_bytes()
        found = cls(path, size=len(data))
        for record in records(data, len(MAGIC)):
            found.note(record.stored)
        return found


class SegmentWriter:
    """Appends to a new segment; what was appended is in the file even if this process dies now, and on the disk after
    `sync`. Raises OSError; a write that failed leaves nothing.
    """

    def __init__(self, path: Path) -> None:
        self.segment = Segment(path)
        self._synced = 0
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._write(MAGIC)
            sync_folder(path.parent)
        except OSError:
            self.discard()
            raise

    def append(self, stored: Stored, frame: bytes) -> None:
        """Append a record, packed by `pack`."""
        self._write(frame)
        self.segment.note(stored)

    def sync(self) -> None:
        """Force everything to the disk. Where that fails, what was appended since the last sync is removed: the next
        sync would not report the loss, and a reader would take it for durable.
        """
        if self._fd < 0:
            return
        try:
            os.fdatasync(self._fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self._synced)
            raise
        self._synced = self.segment.size

    def duplicate(self) -> int:
        """A descriptor of its own, for `sync` in another thread."""
        return os.dup(self._fd)

    def close(self) -> None:
        """Force it to the disk and append nothing more. Idempotent."""
        if self._fd >= 0:
            try:
                os.fsync(self._fd)
            finally:
                os.close(self._fd)
                self._fd = -1

    def discard(self) -> None:
        """Remove it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.segment.path.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError:
            os.ftruncate(self._fd, self.segment.size)
            raise
        self.segment.size += len(data)
