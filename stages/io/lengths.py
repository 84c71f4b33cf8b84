"""How long a recording says that it is: what its head tells, where it tells the truth.

A head that was written before its length was known (to a pipe, by a recorder that died) tells nothing: it holds the
largest number there is, or none. The length that FFmpeg makes up from the first frames of a stream is not used.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from thalweg.stages.io.joined import Kind, Stretch
from thalweg.stages.io.reading import Source

_HEAD = 1 << 20
_EXACT = {"flac", "aiff", "w64", "mov", "asf", "avi", "tta", "wv", "ape"}
_RATES = ((11025, 12000, 8000), (0, 0, 0), (22050, 24000, 16000), (44100, 48000, 32000))  # by version, then index


@dataclass(slots=True)
class Length:
    """`seconds`: as the head says, 0 where it says nothing. `start`, `size`: as bytes of sound, size 0 likewise."""

    seconds: float = 0.0
    start: int = 0
    size: int = 0

    def said_s(self, heard_s: float, taken: int, told_s: float) -> float:
        """Seconds that it says it has, when it had `heard_s` in `taken` bytes, and FFmpeg was told of `told_s`."""
        held = taken - self.start
        if self.size > held > 0 < heard_s:
            likely_s = heard_s * self.size / held
            return told_s if 0.8 < told_s / likely_s < 1.25 else likely_s
        return self.seconds


def length_of(source: Source, kind: Kind, tags: int = 0, *, begin: int = 0) -> Length:
    """What the head tells before FFmpeg reads it; nothing is taken of it. `begin`: where the recording does."""
    if kind.name == "wav":
        return _wave(source)
    if kind.name == "mp3":
        return Length(seconds=_xing_s(source.peek(tags + 200)[tags:]))
    if kind.name == "matroska":
        return _matroska(source)
    if kind.name == "caf":
        return _caf(source, begin)
    return Length()


def told_by(container: Any, stream: Any) -> float:  # Any: PyAV's
    """Seconds that FFmpeg has read from a head, and not guessed; 0 where it has not."""
    name = container.format.name.split(",")[0]
    if name in _EXACT and stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return 0.0


def mend(source: Source, length: Length, stretch: Stretch) -> bool:
    """Have a WAV file read to its end where that lies beyond what its head says, and nothing of RIFF's is there.

    Files of more than 4 GiB say what is left over, and recorders that died what they had at the last moment.
    """
    end = source.position + length.start + length.size
    if not length.size or source.size is None or end >= source.size - _SPARE:
        return False
    for at in (end, end + 1):
        name = source.read_at(at, 4)
        if all(0x20 <= byte < 0x7F for byte in name):
            return False
    stretch.patch = (length.start - 4, b"\xff\xff\xff\xff")
    length.size = 0
    return True


_SPARE = 4096


def _wave(source: Source) -> Length:
    large, at = 0, 12
    while at < _HEAD and len(head := source.peek(at + 8)[at:]) == 8:
        name, size = head[:4], struct.unpack("<I", head[4:])[0]
        if name == b"ds64":
            large = struct.unpack("<Q", source.peek(at + 24)[at + 16 :].ljust(8, b"\0"))[0]
        if name == b"data":
            size = large if size == 0xFFFFFFFF and 0 < large < 1 << 62 else 0 if _made_up(size) else size
            return Length(start=at + 8, size=size)
        at += 8 + size + size % 2
    return Length()


def _matroska(source: Source) -> Length:
    """As its segment says, whose size is all ones where it was not known (RFC 8794, 6.2)."""
    head = source.peek(128)
    at = head.find(b"\x18\x53\x80\x67") + 4
    if at < 4 or at >= len(head) or not head[at]:
        return Length()
    width = 9 - head[at].bit_length()
    size = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    return Length(start=at + width, size=0 if size == (1 << 7 * width) - 1 else size)


def _caf(source: Source, begin: int) -> Length:
    at = begin + 8
    while at < begin + _HEAD and len(head := _look(source, at, 12)) == 12:
        size = struct.unpack(">q", head[4:])[0]
        if head[:4] == b"data" or size < 0:
            return Length(start=at + 12 - begin, size=max(0, size))
        at += 12 + size
    return Length()


def _look(source: Source, at: int, size: int) -> bytes:
    """Bytes of a file, or of what comes next in a pipe."""
    return source.peek(at + size)[at:][:size] if source.size is None else source.read_at(at, size)


def _made_up(size: int) -> bool:
    """Whether a size stands for one that was not known: none, or nearly the largest there is."""
    return size == 0 or size >= 0xFFFF0000 or 0x7FFF0000 <= size <= 0x80000000


def _xing_s(frame: bytes) -> float:
    """Seconds by the count of frames that encoders leave in the first frame of an MP3 file."""
    if len(frame) < 60:
        return 0.0
    version, layer, index = frame[1] >> 3 & 3, frame[1] >> 1 & 3, frame[2] >> 2 & 3
    if layer != 1 or version == 1 or index == 3:
        return 0.0
    mono, long = frame[3] >> 6 == 3, version == 3
    side = (17 if mono else 32) if long else (9 if mono else 17)
    name, flags, count = frame[4 + side : 8 + side], frame[8 + side : 12 + side], frame[12 + side : 16 + side]
    if name in (b"Xing", b"Info") and flags[3] & 1:
        frames = struct.unpack(">I", count)[0]
    elif frame[36:40] == b"VBRI":
        frames = struct.unpack(">I", frame[50:54])[0]
    else:
        return 0.0
    return float(frames * (1152 if long else 576) / _RATES[version][index])
