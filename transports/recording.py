"""Recordings: packets in a file in order of arrival, with times; append-only, with checksums, valid after a crash.

    file   = magic (8 bytes), then frames
    frames   as `transports.frames` describes them
    bodies   H  first frame: MessagePack map {version, codec, pipeline, channels, made}
             P  channel u16 (an index of `channels`), 6 zero bytes, time of arrival u64, record (`transports.codec`)
             E  last frame of a recording that was closed: number of packets u64

All numbers are little-endian. A frame is one `write`, so a killed process loses nothing that it recorded. The file is
synced every second and at the end, so a loss of power loses at most about a second.

A file that ends within a frame, or in zeros where a frame should begin, was truncated by a crash: it is read up to
there. Any other checksum error is damage, and is refused with its position.
"""

from __future__ import annotations

import os
import stat
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgpack

from thalweg.pipeline.decoding import decoder, shown
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import Packet
from thalweg.transports.codec import VERSION as CODEC_VERSION
from thalweg.transports.codec import encode, size_of
from thalweg.transports.frames import HEAD_BYTES, frame_head, head_of
from thalweg.transports.packing import unpack

VERSION = 1
MAGIC = b"\x89TWR\r\n\x1a\n"
SYNC_S = 1.0
_PACKET = struct.Struct("<H6xQ")
_COUNT = struct.Struct("<Q")
_PARTS = 1024
LARGEST_BODY = 1 << 30
LARGEST_ABOUT = 1 << 20


class RecordingError(ThalwegError):
    """A recording cannot be written or read; the message says where and why."""


class RecordingWriter:
    """A new recording. The owner must close it; a thread of its own syncs it to the disk meanwhile.

    Only its owner can read the file (mode 0600): it holds voices. Raises RecordingError where the file exists already
    or cannot be created. After a failed write the file ends with the last whole packet and takes no more.
    """

    def __init__(self, path: Path, channels: Sequence[str], about: Mapping[str, Any]) -> None:
        self.path = path
        self.packets = 0
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise RecordingError(f"{path} exists already; a recording does not replace a file") from None
        except OSError as error:
            raise RecordingError(f"cannot make {path}: {error.strerror}") from None
        self._size = 0
        self._failed = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._sync, name="recording", daemon=True)
        header = dict(about) | {"version": VERSION, "codec": CODEC_VERSION, "channels": list(channels)}
        body = msgpack.packb(header, unicode_errors="surrogatepass")
        try:
            self._append([MAGIC, frame_head(b"H", [body]), body])
        except RecordingError:
            self.discard()
            raise
        self._thread.start()

    def write(self, channel: int, time_ns: int, packet: Packet) -> None:
        """Append a packet. Raises RecordingError if it could not be written."""
        parts = encode(packet)
        start = _PACKET.pack(channel, time_ns)
        if size_of(parts) + len(start) > LARGEST_BODY:
            raise RecordingError(f"a packet of {size_of(parts) / 1e6:.0f} MB is too large for a recording")
        body = [start, *parts]
        self._append([frame_head(b"P", body), *body])
        self.packets += 1

    def close(self) -> None:
        """Write the end mark and force everything to the disk. Idempotent. Raises RecordingError."""
        if self._fd < 0:
            return
        self._closing.set()
        self._thread.join()
        try:
            if not self._failed:
                body = _COUNT.pack(self.packets)
                self._append([frame_head(b"E", [body]), body])
            os.fsync(self._fd)
        except OSError as error:
            raise RecordingError(f"cannot force {self.path} to the disk: {error.strerror}") from None
        finally:
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        """Remove the file. Call it instead of `close`, or before it."""
        if self._fd >= 0:
            self._closing.set()
            if self._thread.is_alive():
                self._thread.join()
            os.close(self._fd)
            self._fd = -1
            self.path.unlink(missing_ok=True)

    def _append(self, parts: Sequence[Any]) -> None:
        if self._failed:
            raise RecordingError(f"{self.path} takes no more packets since a write failed")
        wanted = sum(memoryview(part).nbytes for part in parts)
        try:
            written = os.writev(self._fd, parts if len(parts) <= _PARTS else [b"".join(parts)])
            while written < wanted:  # a full disk takes what fits, and says so at the next call
                written += os.write(self._fd, b"".join(parts)[written:])
        except OSError as error:
            self._failed = True
            os.ftruncate(self._fd, self._size)
            raise RecordingError(
                f"cannot write {self.path}: {error.strerror}; it holds the {self.packets} packets before"
            ) from None
        self._size += wanted

    def _sync(self) -> None:
        while not self._closing.wait(SYNC_S):
            try:
                os.fdatasync(self._fd)
            except OSError:  # told by the next write, or at the end
                return


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One packet of a recording: the channel it left, when, and its bytes; `codec.decode` reads them."""

    channel: str
    time_ns: int
    record: bytes


class Recording:
    """Reads a recording. Raises RecordingError if the file is not one or has another version.

    `complete`: whether it was closed; known once everything was read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.complete = False
        first = next(self._frames(), None)
        if first is None:
            raise RecordingError(f"{path} breaks off within its first bytes: nothing was recorded")
        about = _about(path, *first[:2])
        self.about: Mapping[str, Any] = about
        self.channels: tuple[str, ...] = tuple(about["channels"])

    def __iter__(self) -> Iterator[Recorded]:
        """The packets in order. Raises RecordingError at the first damage."""
        frames = self._frames()
        next(frames)
        packets = 0
        self.complete = False
        for kind, body, at in frames:
            if self.complete:
                raise RecordingError(f"{self.path} goes on behind its end mark, at byte {at}")
            if kind == b"E" and len(body) == _COUNT.size:
                self.complete = True
                if _COUNT.unpack(body)[0] != packets:
                    raise RecordingError(
                        f"{self.path} holds {packets} packets, its end mark says {_COUNT.unpack(body)[0]}"
                    )
            elif kind == b"P" and len(body) >= _PACKET.size:
                channel, time_ns = _PACKET.unpack_from(body)
                if channel >= len(self.channels):
                    raise RecordingError(f"{self.path}: the packet at byte {at} is of channel {channel}, which is none")
                packets += 1
                yield Recorded(channel=self.channels[channel], time_ns=time_ns, record=body[_PACKET.size :])
            else:
                raise RecordingError(f"{self.path}: the frame at byte {at} is of unknown kind {kind!r}")

    def check(self) -> int:
        """Read everything and count the packets. Raises RecordingError at the first damage."""
        return sum(1 for _ in self)

    def _frames(self) -> Iterator[tuple[bytes, bytes, int]]:
        """Kind, body and position of each frame, up to the end or to where the file was truncated."""
        try:
            with _open(self.path) as file:
                whole = os.fstat(file.fileno()).st_size
                if (found := file.read(len(MAGIC))) != MAGIC:
                    if MAGIC.startswith(found):
                        return
                    raise RecordingError(f"{self.path} is no recording: it begins with {found!r}, expected {MAGIC!r}")
                while True:
                    at = file.tell()
                    head = file.read(HEAD_BYTES)
                    if len(head) < HEAD_BYTES:
                        return
                    if (told := head_of(head)) is None:
                        if not any(head) and _only_zeros(file):
                            return
                        raise self._damage(at)
                    kind, length, check = told
                    if length > LARGEST_BODY:
                        raise self._damage(at)
                    if file.tell() + length > whole:
                        return
                    body = file.read(length)
                    if len(body) < length:
                        return
                    if zlib.crc32(body) != check:
                        raise self._damage(at)
                    yield kind, body, at
        except OSError as error:
            raise RecordingError(f"cannot read {self.path}: {error.strerror}") from None

    def _damage(self, at: int) -> RecordingError:
        return RecordingError(
            f"{self.path} is damaged: the frame at byte {at} does not fit its checksum; "
            "record again, or take a copy that was not altered"
        )


def _open(path: Path) -> BinaryIO:
    """Open a regular file. Others are refused: they may have no end, or block until written to. Raises OSError."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise RecordingError(f"cannot read {path}: it is no regular file")
    return file


def _only_zeros(file: BinaryIO) -> bool:
    """Whether nothing but zeros is left."""
    while chunk := file.read(1 << 16):
        if any(chunk):
            return False
    return True


@decoder(RecordingError, "the description of the recording")
def _about(path: Path, kind: bytes, body: bytes) -> Mapping[str, Any]:
    """The contents of the first frame. Raises RecordingError."""
    if len(body) > LARGEST_ABOUT:
        raise RecordingError(f"{path} begins with a description of {len(body)} bytes, at most {LARGEST_ABOUT} are read")
    about: Any = unpack(body) if kind == b"H" else None
    if type(about) is not dict or not {"version", "codec", "channels"} <= about.keys():
        raise RecordingError(f"{path} does not begin with the description of a recording")
    version, codec, channels = about["version"], about["codec"], about["channels"]
    if type(channels) is not tuple or not all(type(name) is str for name in channels):
        raise RecordingError(f"{path} does not begin with the description of a recording")
    if (type(version), type(codec), version, codec) != (int, int, VERSION, CODEC_VERSION):
        raise RecordingError(
            f"{path} is of recording version {shown(version)} with packets of version {shown(codec)}; "
            f"this is Thalweg with {VERSION} and {CODEC_VERSION}"
        )
    return about
