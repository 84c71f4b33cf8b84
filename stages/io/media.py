"""The one place where recordings and pictures are opened, in any container and from any source.

    with opened(path, "audio") as media:
        for recording in media.recordings():
            for frame in recording.frames():
                …

Names are never given to FFmpeg (`stages.io.reading`), nothing that a file names is opened, joined recordings come one
after the other (`stages.io.joined`), lengths are believed where they are known (`stages.io.lengths`), and what goes
wrong is a MediaError whose message is a sentence.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from thalweg.models.pyav import bounded, closed, live
from thalweg.stages.io.joined import Span, Stretch, index_last, kind_of, spans
from thalweg.stages.io.lengths import Length, length_of, mend, told_by
from thalweg.stages.io.reading import MediaError, Source, Stopped

__all__ = ["Media", "MediaError", "Recording", "Stopped", "opened", "watched"]

log = logging.getLogger(__name__)

_DEFAULT, _COVER = 0x1, 0x400  # FFmpeg's marks of streams
Wanted = Literal["audio", "video"]
_PLAYLIST = re.compile(
    rb"\s*(#EXTM3U|ffconcat|\[playlist\]|<asx|<MPD|<\?xml[^>]*>\s*<(MPD|playlist|smil)|v=0\r?\no=)", re.I
)
_LOOKS = (
    (re.compile(rb"PK\x03\x04"), "it is an archive (ZIP, or an office document)"),
    (re.compile(rb"%PDF-"), "it is a PDF document"),
    (re.compile(rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf"), "it is compressed: unpack it first"),
    (re.compile(rb"\s*<(!doctype html|html|head|\?xml)", re.I), "it is a page of the web, saved under this name"),
    (re.compile(rb"version https://git-lfs"), "it is a pointer of Git LFS: fetch the file with `git lfs pull`"),
    (re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]{5,}\Z", re.S), "it is text"),
)


_HEAD = 1 << 20
_RAW = "; bare samples need a head: ffmpeg -f s16le -ar 16000 -ac 1 -i FILE FILE.wav"


class Recording:
    """One recording, opened. `stream`: what was asked for, of its kind the one with `number`.

    `pieces`, `damaged`: how many came, and how many could not be decoded. `start_s`: the time stamp of its beginning,
    pictures and sound together. `whole_until_end`: nothing that can be decoded comes after something that cannot.
    `said_s`: the seconds it says it has, 0 where it does not say. `end_s`: the time stamp where the last piece ends.
    """

    def __init__(self, container: Any, stream: Any, number: int) -> None:  # Any: PyAV's
        self.container = container
        self.stream = stream
        self.number = number
        self.said_s = told_by(container, stream)
        self.pieces = 0
        self.damaged = 0
        self.whole_until_end = True
        self.start_s = self.end_s = (container.start_time or 0) / 1e6
        self.format = str(container.format.name).split(",")[0]

    def frames(self) -> Iterator[Any]:
        """Everything that can be decoded. Raises MediaError where the bytes themselves cannot be had."""
        import av

        failures = (av.FFmpegError, OSError, ValueError)
        packets = self.container.demux(self.stream)
        while True:
            self.pieces += 1
            try:
                packet = next(packets)
            except StopIteration:
                self.pieces -= 1
                return
            except failures:
                self.damaged += 1
                return
            if packet.pts is not None and packet.time_base:
                self.end_s = max(self.end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            try:
                frames = packet.decode()
            except failures:
                self.damaged += 1
                continue
            if frames and self.damaged:
                self.whole_until_end = False
            yield from frames


class Media:
    """A file or pipe, and what it holds. `held_s`, `lost_s`: seconds of it, set by the decoder."""

    def __init__(self, source: Source, wanted: Wanted, track: int | None, note: Callable[[str], None]) -> None:
        self.name = source.name
        self.live = source.size is None
        self.note = note
        self.pieces = self.damaged = 0
        self.only_at_end = True
        self.said_s = self.held_s = self.lost_s = 0.0
        self._source = source
        self._wanted = wanted
        self._track = track
        self._count = 0
        self._broken_off = False
        self._file: Stretch | Span | None = None

    def recordings(self) -> Iterator[Recording]:
        """Each recording in turn, closed when the next one is asked for. Raises MediaError where there is none."""
        if not self._source.peek(1):
            raise MediaError(f"{self.name} is not {self._kind}: it is empty")
        kind, _ = kind_of(self._source)
        if self.live and index_last(self._source, kind):
            self._source.keep()
        if self._source.size is not None and not kind.linear:
            for start, end in spans(self._source, kind):
                length = length_of(self._source, kind, begin=start)
                yield from self._one(Span(self._source, start, end, self._hint), length)
            return
        while self._source.peek(1):
            kind, tags = kind_of(self._source)
            if self._count and len(self._source.peek(tags + 1)) == tags:
                return  # tags that come last belong to what came before
            stretch = Stretch(self._source, kind, tags, self._hint)
            length = length_of(self._source, kind, tags)
            if kind.name == "wav" and mend(self._source, length, stretch):
                self.note(f"{self.name} holds more than its head says; all of it is read")
            yield from self._one(stretch, length)

    @property
    def share(self) -> float | None:
        """How much of it was read, 0…1; None where that cannot be known."""
        if not self._source.size or self._file is None:
            return None
        at = self._file.tell() if isinstance(self._file, Span) else self._source.position
        return min(1.0, at / self._source.size)

    def look(self, offset: int, size: int) -> bytes:
        """Bytes of the file, fewer where there are no more; of a pipe of its first megabyte, before it is read."""
        if self._source.size is not None:
            return self._source.read_at(offset, size)
        return self._source.peek(min(_HEAD, offset + size))[offset:][:size]

    def ended(self) -> None:
        """Everything was taken. Raises MediaError where some of it was damaged, or it is less than it says."""
        short = self.held_s < 0.98 * self.said_s - 0.1
        wrong = []
        if self.damaged and not (short and self.only_at_end):
            pieces = f"{self.damaged} of its {self.pieces} pieces"
            wrong.append(f"is damaged: {pieces} could not be decoded and are missing")
        if self.lost_s:
            wrong.append(f"is damaged: {self.lost_s:.1f} s could not be read and are silence")
        if short:
            wrong.append(f"is cut short: it says {self.said_s:.1f} s and holds {self.held_s:.1f} s")
        elif self._broken_off:
            wrong.append(f"is cut short: it breaks off after {self.held_s:.1f} s")
        if wrong:
            raise MediaError(f"{self.name} {' and '.join(wrong)}")

    @property
    def _kind(self) -> str:
        return "an audio file" if self._wanted == "audio" else "video"

    @property
    def _hint(self) -> str:
        """A name for FFmpeg to tell formats by that have no other mark."""
        suffix = self._source.suffix.lower()
        return f"media{suffix}" if re.fullmatch(r"\.[a-z0-9]{1,6}", suffix) else "media"

    def _one(self, file: Stretch | Span, length: Length) -> Iterator[Recording]:
        before_s = self.held_s
        self._file = file
        with self._container(file) as container:
            recording = Recording(container, *self._stream(container))
            self._count += 1
            told_s = (container.duration or 0) / 1e6
            try:
                yield recording
            finally:
                self.pieces += recording.pieces
                self.damaged += recording.damaged
                self.only_at_end = self.only_at_end and recording.whole_until_end
        file.drain()
        held_s = self.held_s - before_s
        self.said_s += max(held_s, length.said_s(held_s, file.taken, told_s) or recording.said_s)
        self._broken_off = file.broken_off

    @contextmanager
    def _container(self, file: Stretch | Span) -> Iterator[Any]:
        import av

        head = self._source.peek(64, 512) if isinstance(file, Stretch) else file.head(512)
        if _PLAYLIST.match(head):
            raise MediaError(f"{self.name} is a playlist: it names recordings and holds none; read those it names")
        try:
            container = av.open(file, **closed())
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = _reason(head, file, error)
            if self._count:
                raise MediaError(f"{self.name} cannot be read on after {self.held_s:.1f} s: {reason}") from None
            raise MediaError(f"{self.name} is not {self._kind}: {reason}") from None
        with container:
            bounded(container)
            yield container

    def _stream(self, container: Any) -> tuple[Any, int]:
        streams = container.streams.audio if self._wanted == "audio" else container.streams.video
        if not streams:
            other = "pictures" if container.streams.video else "sound" if container.streams.audio else "neither"
            raise MediaError(f"{self.name} has no {self._wanted} stream, it holds {other}")
        if self._track is not None and self._track > len(streams):
            raise MediaError(
                f"{self.name} has {len(streams)} {self._wanted} track(s), there is no number {self._track}"
            )
        number = self._track or _preferred(streams)
        stream = streams[number - 1]
        if stream.codec_context is None:
            raise MediaError(f"{self.name} is coded in a way that this FFmpeg cannot decode")
        return stream, number


@contextmanager
def opened(
    path: Path,
    wanted: Wanted,
    *,
    track: int | None = None,
    note: Callable[[str], None] = log.warning,
    stop: threading.Event | None = None,
) -> Iterator[Media]:
    """What is at `path`, to be read once. `track`: which of several, from 1. `note`: told what is worth knowing.

    Raises MediaError where nothing is there.
    """
    try:
        import av  # noqa: F401
    except ImportError:
        raise MediaError(f"reading {path} needs PyAV: pip install 'thalweg[audio]'") from None
    source = Source(path, stop)
    try:
        yield Media(source, wanted, track, note)
    finally:
        source.close()


@contextmanager
def watched(url: str, transport: str, patience_s: float) -> Iterator[Iterator[Any]]:
    """The decoded pictures of a camera at an RTSP address, for as long as it sends them.

    Raises MediaError where it cannot be reached, refuses, sends no video, ends, or sends nothing for `patience_s`, as
    a half-open connection does, too. The messages hold nothing of the address: it may be secret.
    """
    try:
        import av
    except ImportError:
        raise MediaError("watching a camera needs PyAV: pip install 'thalweg[video]'") from None
    try:
        with av.open(url, **live(transport, patience_s)) as container:
            if not container.streams.video:
                raise MediaError("it sends no video")
            bounded(container)
            yield _pictures(container)
    except av.error.ExitError:
        raise MediaError(f"it has sent nothing for {patience_s:g} s") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(_REFUSED.get(type(error).__name__, getattr(error, "strerror", "") or "it fails")) from None


_REFUSED = {
    "HTTPUnauthorizedError": "it wants another user or password",
    "HTTPForbiddenError": "it does not let this user in",
    "HTTPNotFoundError": "it has no such stream",
}


def _pictures(container: Any) -> Iterator[Any]:
    import av

    for packet in container.demux(container.streams.video[0]):
        try:
            yield from packet.decode()
        except (av.error.InvalidDataError, ValueError):  # until the first key frame, and after what was lost
            continue
    raise MediaError("it has ended the stream")


def _preferred(streams: Any) -> int:
    """The number of the first of several that is no cover and that the file prefers, or else of the first."""
    marks = [int(getattr(stream, "disposition", 0) or 0) for stream in streams]
    for wanted in (_DEFAULT, 0):
        for number, mark in enumerate(marks, 1):
            if not mark & _COVER and mark & wanted == wanted:
                return number
    return 1


def _reason(head: bytes, file: Stretch | Span, error: Exception) -> str:
    if head[4:8] == b"ftyp":
        return "its index is missing, as of a recording that was never finished or is cut short"
    for pattern, reason in _LOOKS:
        if pattern.match(head):
            return reason
    if isinstance(error, ValueError):
        return f"no format that FFmpeg knows begins with {head[:8].hex(' ')}{_RAW}"
    return getattr(error, "strerror", None) or str(error)
