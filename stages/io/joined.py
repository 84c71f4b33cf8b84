"""Where in a file one recording ends and the next begins: `cat a.ogg b.ogg`, chained radio streams, phone recorders.

Decoders take the head of the first recording for all of them: the second one comes out at the wrong speed, as noise
or not at all. So each is read as a file of its own. What begins a recording is looked for in the bytes, by patterns
so long that sound does not hold them by accident.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from thalweg.stages.io.reading import MediaError, Source

_LONGEST = 96
"""Bytes that the beginning of a recording may have in its pattern."""
_PAGE = 65_307
_TAGS = 32 << 20
_BOXES = _BLOCK = 1 << 20
_ID3 = rb"ID3[\x02-\x04][\x00-\x0f][\x00-\xff][\x00-\x7f]{4}"
_W64 = rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00.{8}wave\xf3\xac\xd3\x11"
_WAVE = rb"(?:RIFF|RF64|BW64).{4}WAVE[\x20-\x7e]{4}"


@dataclass(frozen=True, slots=True)
class Kind:
    """A way of keeping sound and pictures. `first`: how a file of it begins; `again`: how another recording in it does.

    `linear`: it is read from front to back, and given to FFmpeg so, from files as from pipes: what FFmpeg would guess
    by looking ahead, as the length of a stream from its first frames, is not known then rather than wrong.
    """

    name: str
    first: re.Pattern[bytes]
    again: re.Pattern[bytes] | None = None
    linear: bool = True


def _kind(name: str, first: bytes, again: bytes = b"", *, linear: bool = True) -> Kind:
    return Kind(name, re.compile(first, re.S), re.compile(again, re.S) if again else None, linear)


_KINDS = (
    _kind("wav", _WAVE, _WAVE),
    _kind("ogg", rb"OggS", rb"OggS\x00[\x02\x03\x06\x07]\x00{8}"),
    _kind("flac", rb"fLaC", rb"fLaC[\x00\x80]\x00\x00\x22"),
    _kind("matroska", rb"\x1aE\xdf\xa3", rb"\x1aE\xdf\xa3.{1,64}?B\x82.(?:webm|matroska)"),
    _kind("mp3", rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff]", _ID3 + rb"(?:[A-Z0-9]{3}|\x00{3})"),
    _kind("adts", rb"\xff[\xf0\xf1\xf8\xf9]"),
    _kind("ac3", rb"\x0bw"),
    _kind("au", rb"\.snd", rb"\.snd\x00\x00.{6}\x00\x00\x00[\x01-\x1b]"),
    _kind("asf", rb"0&\xb2u\x8ef\xcf\x11", rb"0&\xb2u\x8ef\xcf\x11\xa6\xd9\x00\xaa\x00b\xcel"),
    _kind("amr", rb"#!AMR(?:-WB)?\n", rb"#!AMR(?:-WB)?\n"),
    _kind("w64", _W64[:36], _W64),
    _kind("aiff", rb"FORM.{4}AIF[FC]", rb"FORM.{4}AIF[FC](?:COMM|FVER|[A-Z()c ]{4}\x00)", linear=False),
    _kind("caf", rb"caff\x00\x01", rb"caff\x00\x01\x00.desc\x00{7}\x20", linear=False),
    _kind("avi", rb"RIFF.{4}AVI ", rb"RIFF.{4}AVI LIST.{4}hdrl", linear=False),
    _kind("mp4", rb".{4}(?:ftyp|moov|mdat|wide|free|skip)", linear=False),
)
_UNKNOWN = Kind("", re.compile(b""), None, linear=False)


def kind_of(source: Source) -> tuple[Kind, int]:
    """What comes next in a source, and how many bytes of tags come before it. Raises MediaError."""
    tags = 0
    while re.match(_ID3, head := source.peek(tags + 16)[tags:], re.S):
        tags += 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]) + (10 if head[5] & 0x10 else 0)
        if tags > _TAGS:
            raise MediaError(f"{source.name} begins with more than {_TAGS >> 20} MB of tags, and holds no sound")
    return next((kind for kind in _KINDS if kind.first.match(head)), _UNKNOWN), tags


def spans(source: Source, kind: Kind) -> list[tuple[int, int]]:
    """Where the recordings of a file begin and end that FFmpeg may seek in."""
    assert source.size is not None
    begins = _movies(source) if kind.name == "mp4" else _others(source, kind)
    return list(zip(begins, [*begins[1:], source.size], strict=True))


def _others(source: Source, kind: Kind) -> list[int]:
    """One begins where the one before says that it ends, or else, as that may not be so, where it looks like it."""
    assert source.size is not None
    begins = [0]
    while kind.again is not None:
        end = _end(source, kind, begins[-1])
        at = next((at for at in (end, end + 1) if kind.again.match(source.read_at(at, _LONGEST))), None)
        at = (
            _next(source, kind.again, end if begins[-1] < end <= source.size else begins[-1] + 12) if at is None else at
        )
        if at is None:
            break
        begins.append(at)
    return begins


def _end(source: Source, kind: Kind, begin: int) -> int:
    """Where the recording that begins there says that it ends; beyond the file where it does not know."""
    assert source.size is not None
    if kind.name != "caf":
        order: Literal["big", "little"] = "big" if kind.name == "aiff" else "little"
        size = int.from_bytes(source.read_at(begin + 4, 4), order)
        return begin + 8 + size if size > 4 else source.size + 1
    at = begin + 8
    while len(head := source.read_at(at, 12)) == 12 and head[:4] != b"caff":
        size = int.from_bytes(head[4:], "big", signed=True)
        if size < 0:
            return source.size + 1
        at += 12 + size
    return at


def _next(source: Source, again: re.Pattern[bytes], at: int) -> int | None:
    """Where a recording begins from there on."""
    while len(block := source.read_at(at, _BLOCK)) > _LONGEST:
        if match := again.search(block):
            return at + match.start()
        at += len(block) - _LONGEST
    return None


def _movies(source: Source) -> list[int]:
    """As of MP4: an `ftyp` after an index and data begins another one."""
    assert source.size is not None
    begins, seen, at = [0], set[bytes](), 0
    while at < source.size and len(head := source.read_at(at, 16)) >= 8:
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        if name == b"ftyp" and b"moov" in seen and seen & {b"mdat", b"moof"}:
            begins.append(at)
            seen.clear()
        seen.add(name)
        size = int.from_bytes(head[8:], "big") if size == 1 else size
        if size < 8:
            break
        at += size
    return begins


def index_last(source: Source, kind: Kind) -> bool:
    """Whether what comes by pipe has its index behind its data, or may have, and cannot be read before its end."""
    if kind.name == "caf":
        return source.peek(32)[28:] != b"lpcm"
    if kind.name != "mp4":
        return False
    at = 0
    while len(head := source.peek(at + 16)[at:]) >= 8 and head[4:8] not in (b"moov", b"moof"):
        size = int.from_bytes(head[:4], "big")
        if head[4:8] == b"mdat" or size < 8 or at + size > _BOXES:
            return True
        at += size
    return False


class Stretch:
    """One recording of a source, for FFmpeg to read from front to back. It ends where the next one begins.

    `taken`: the bytes it had so far. `patch`: bytes to give in place of those there are, by their offset. `broken_off`:
    whether it ends in the middle of something, where its kind lets that be seen.
    """

    def __init__(self, source: Source, kind: Kind, tags: int, name: str) -> None:
        self.name = name
        self.taken = 0
        self.patch: tuple[int, bytes] = (0, b"")
        self._source = source
        self._again = kind.again
        self._lead = _leading(source, kind, tags)
        self._ended = False
        self._tail = b"" if kind.name == "ogg" else None

    def read(self, size: int) -> bytes:
        """The next bytes, none at the end. Raises MediaError and Stopped."""
        if self._ended:
            return b""
        if self._again is not None:
            ahead = self._source.peek(_LONGEST + 1, size + _LONGEST)
            match = self._again.search(ahead, max(0, self._lead - self.taken))
            held = 0 if len(ahead) <= _LONGEST else _LONGEST
            size = min(size, match.start() if match else len(ahead) - held)
        taken = self._source.read(size) if size else b""
        self._ended = not taken
        if self.taken < self.patch[0] + len(self.patch[1]) and taken:
            taken = self._patched(bytearray(taken))
        self.taken += len(taken)
        if self._tail is not None:
            self._tail = (self._tail + taken)[-_PAGE:]
        return taken

    @property
    def broken_off(self) -> bool:
        """Known once it was drained."""
        page = (self._tail or b"").rfind(b"OggS\0")
        head = (self._tail or b"")[page : page + 27]
        if page < 0 or self._tail is None:
            return False
        return len(head) < 27 or len(self._tail) - page < 27 + head[26] + sum(self._tail[page + 27 :][: head[26]])

    def drain(self) -> None:
        """Pass over what FFmpeg did not want."""
        while self.read(1 << 16):
            pass

    def _patched(self, taken: bytearray) -> bytes:
        for at, byte in enumerate(self.patch[1], self.patch[0] - self.taken):
            if 0 <= at < len(taken):
                taken[at] = byte
        return bytes(taken)


class Span:
    """A part of a file, for FFmpeg to read and to seek in."""

    broken_off = False

    def __init__(self, source: Source, start: int, end: int, name: str) -> None:
        self.name = name
        self._source = source
        self._start, self._end = start, end
        self._at = 0
        self.taken = end - start

    def read(self, size: int) -> bytes:
        """The next bytes, none at the end. Raises MediaError and Stopped."""
        start = self._start + self._at
        found = self._source.read_at(start, min(size, max(0, self._end - start)))
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file."""
        self._at = max(0, offset + (0, self._at, self._end - self._start)[whence])
        return self._at

    def tell(self) -> int:
        """As of a file."""
        return self._at

    def head(self, size: int) -> bytes:
        """Its first bytes."""
        return self._source.read_at(self._start, min(size, self._end - self._start))

    def drain(self) -> None:
        """Nothing: it is read where FFmpeg wants it."""


def _leading(source: Source, kind: Kind, tags: int) -> int:
    """How many bytes begin a recording, so that what looks like a beginning in there begins no other one."""
    if kind.name != "ogg":
        return tags + 16
    at = 0
    while len(head := source.peek(at + 27)[at:]) == 27 and head[:4] == b"OggS" and head[5] & 2 and at < _TAGS:
        table = source.peek(at + 27 + head[26])[at + 27 :]
        at += 27 + len(table) + sum(table)
    return at
