"""The spool of a node: what is to reach the hub lies here until the hub has it on its own disk.

Theory of operation. Records are appended to segments, one open segment per class; `pipeline.fleet.spool_policy` says
what gives way when there is not room for all. A segment is removed once the hub has acknowledged every record in it.

    append      it has a number, and survives the death of this process
    sync        … and a power cut. Events are synced before their sender is answered, telemetry every second
    newest      the live lane: what was appended last, from memory, newest first, each once
    oldest      the backlog: what the hub has not acknowledged, oldest first, in shares by class
    settle      the hub has these numbers, or knows that they are lost

Acknowledgements are not kept on the disk: after a restart the hub says what it has, and what is sent twice dies there.
What gave way or was damaged is told to the hub as a record of the stream `LOSSES`, an event as any other.

Safe to be called from several threads. Raises SpoolError where a record cannot be stored, OSError where the folder
cannot be used at all.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter, deque
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgpack

from thalweg.pipeline.fleet.received import Received
from thalweg.pipeline.fleet.spool_policy import SpoolClass, SpoolPolicy
from thalweg.transports.fleet.losses import DAMAGED, DISK_FULL, LOSSES, ROOM, Loss
from thalweg.transports.fleet.segment import MAGIC, Segment, SegmentWriter, SpoolError, Stored, pack, records

MOST_STREAMS = 256
LIVE_RECORDS, LIVE_BYTES = 256, 1 << 20
LARGEST_SEGMENT = 1 << 20
SHARES: Final = ((SpoolClass.EVENTS, 0.6), (SpoolClass.TELEMETRY, 0.3), (SpoolClass.MEDIA, 0.1))
"""Of each batch of the backlog, so that no class starves; what one leaves the others take, in this order."""
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
Key = tuple[int, str, int]


class Spool:
    """See above. `boot`: how often this node's agent has been started; one more than ever before.

    `problem`: why the disk did not take something since that was last emptied.
    """

    def __init__(self, folder: Path, boot: int, budget: int) -> None:
        self.boot = boot
        self.refused: Counter[str] = Counter()
        self.problem = ""
        self._folder = folder
        self._lock = threading.RLock()
        self._policy = SpoolPolicy(budget)
        self._segment_bytes = max(4096, min(LARGEST_SEGMENT, budget // 64))
        self._segments: dict[SpoolClass, dict[str, Segment]] = {kind: {} for kind in SpoolClass}
        self._writers: dict[SpoolClass, SegmentWriter] = {}
        self._numbers: Counter[str] = Counter()
        self._marks: dict[tuple[int, str], Received] = {}
        self._live: deque[tuple[Stored, bytes]] = deque()
        self._live_bytes = 0
        self._flying: dict[str, set[Key]] = {}
        self._cursors: dict[SpoolClass, tuple[str, int]] = {}
        self._untold: deque[Loss] = deque()
        self._doubtful: dict[str, int] = {}  # stream → below this number a sync has failed
        self._serial = 0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._find()
        self._tell_losses()

    def append(self, kind: SpoolClass, stream: str, payload: bytes, time_ns: int) -> Stored:
        """Store a record; see above. Raises SpoolError where that cannot be, and it is counted in `refused`."""
        with self._lock:
            try:
                stored = self._append(kind, stream, payload, time_ns)
            except SpoolError:
                self.refused[kind.value] += 1
                raise
            if self._untold:
                self._tell_losses()
            return stored

    def sync(self, kind: SpoolClass, stored: Stored | None = None) -> None:
        """Force everything of a class that was appended before to the disk. Raises SpoolError where it cannot be, or
        where `stored` was appended before another sync failed: the system says that once, and then forgets.
        """
        with self._lock:
            writer = self._writers.get(kind)
            opened = writer.duplicate() if writer is not None else None
        if opened is not None:
            try:
                os.fdatasync(opened)
            except OSError as error:
                with self._lock:
                    self._doubtful = dict(self._numbers)
                    self._distrust(kind, error)
                raise SpoolError(f"the disk does not take it: {error.strerror}") from None
            finally:
                os.close(opened)
        if stored is not None and stored.number < self._doubtful.get(stored.stream, 0):
            raise SpoolError("the disk did not take it")

    def newest(self, most_bytes: int, kinds: Collection[SpoolClass] = tuple(SpoolClass), lane: str = "") -> list[bytes]:
        """Frames of a live lane, newest first, that were not given out before.

        They stay in the backlog, which ends before them until this is called again by the same lane: by then they have
        arrived or not.
        """
        frames: list[bytes] = []
        with self._lock:
            size = 0
            flying = self._flying[lane] = set()
            passed_over: list[tuple[Stored, bytes]] = []
            while self._live:
                stored, frame = self._live.pop()
                if stored.kind not in kinds:
                    passed_over.append((stored, frame))
                    continue
                if frames and size + len(frame) > most_bytes:
                    self._live.append((stored, frame))
                    break
                self._live_bytes -= len(frame)
                if not self._settled(stored):
                    frames.append(frame)
                    size += len(frame)
                    flying.add(stored.key)
            self._live.extend(reversed(passed_over))
        return frames

    def waiting_live(self, kind: SpoolClass) -> int:
        """Bytes of a class that are new and were not given out."""
        with self._lock:
            return sum(len(frame) for stored, frame in self._live if stored.kind is kind)

    def oldest(self, most_bytes: int) -> list[bytes]:
        """Frames of the backlog behind those given out before, without those that are live; see `rewind`."""
        frames: list[bytes] = []
        left = most_bytes
        with self._lock:
            for kind, room in [
                *((kind, int(share * most_bytes)) for kind, share in SHARES),
                *((k, -1) for k, _ in SHARES),
            ]:
                more = self._read(kind, left if room < 0 else min(left, room), alone=room < 0 and not frames)
                left -= sum(map(len, more))
                frames += more
        return frames

    def rewind(self) -> None:
        """Give the backlog out again from its beginning: it is not known what of it has arrived."""
        with self._lock:
            self._cursors.clear()
            self._flying.clear()

    def settle(self, boot: int, stream: str, received: Received) -> None:
        """The hub has these; segments of which it has everything are removed."""
        with self._lock:
            self._marks[boot, stream] = received
            still = boot == self.boot
            for kind, segments in self._segments.items():
                open_name = self._open_name(kind)
                for name, segment in list(segments.items()):
                    if (boot, stream) in segment.ranges and self._is_done(segment):
                        if name == open_name and segment.size < self._segment_bytes // 4:
                            continue  # files that come and go with every event wear a disk out
                        with suppress(OSError):  # a disk that takes nothing: it goes with the next answer
                            if name == open_name:
                                self._close(kind)
                            self._remove(kind, name)
                    still = still or ((boot, stream) in segment.ranges and name in segments)
            if not still:
                del self._marks[boot, stream]

    def streams(self) -> dict[tuple[int, str], int]:
        """(boot, stream) of everything that is here → the lowest number that is."""
        with self._lock:
            found = {(self.boot, stream): number for stream, number in self._numbers.items()}
            for segments in self._segments.values():
                for segment in segments.values():
                    for key, (first, _) in segment.ranges.items():
                        found[key] = min(first, found.get(key, first))
            return found

    def backlog(self) -> dict[str, dict[str, int]]:
        """Class → records that the hub has not acknowledged, and bytes of the segments they are in."""
        found = {}
        with self._lock:
            for kind, segments in self._segments.items():
                waiting = {name: self._waiting(segment) for name, segment in segments.items()}
                size = sum(segments[name].size for name, count in waiting.items() if count)
                found[kind.value] = {"records": sum(waiting.values()), "bytes": size}
        return found

    def close(self) -> None:
        """Force everything to the disk. Idempotent."""
        with self._lock:
            for kind in list(self._writers):
                self._close(kind)

    def _append(self, kind: SpoolClass, stream: str, payload: bytes, time_ns: int) -> Stored:
        if stream not in self._numbers and len(self._numbers) >= MOST_STREAMS:
            raise SpoolError(f"stream {stream[:40]!r} would be one more than {MOST_STREAMS}, the most a spool holds")
        stored = Stored(
            kind=kind, boot=self.boot, stream=stream, number=self._numbers[stream], time_ns=time_ns, payload=payload
        )
        frame = pack(stored)
        room = self._policy.room(kind, len(frame) + len(MAGIC))
        if not room.accepted:
            raise SpoolError(
                f"the spool has no room for {kind.value}: {self._policy.used(kind)} bytes wait for the hub"
            )
        try:
            for name in room.remove:
                self._give_up(name, ROOM)
            self._write(kind, stored, frame)
        except OSError as error:
            self._distrust(kind, error)
            raise SpoolError(f"the spool cannot be written: {error.strerror}") from None
        self._policy.grow(self._writers[kind].segment.path.name, len(frame))
        self._numbers[stream] += 1
        self._live.append((replace(stored, payload=b""), frame))
        self._live_bytes += len(frame)
        while len(self._live) > LIVE_RECORDS or (self._live_bytes > LIVE_BYTES and len(self._live) > 1):
            self._live_bytes -= len(self._live.popleft()[1])
        return stored

    def _write(self, kind: SpoolClass, stored: Stored, frame: bytes) -> None:
        """Where the disk is full, at the cost of what matters less. Raises OSError."""
        while True:
            try:
                self._writer(kind, len(frame)).append(stored, frame)
                return
            except OSError as error:
                if error.errno not in _DISK_FULL or not self._give_up_any(kind):
                    raise

    def _writer(self, kind: SpoolClass, size: int) -> SegmentWriter:
        """The open segment of a class; a new one where it would become too large."""
        writer = self._writers.get(kind)
        if writer is not None and writer.segment.size + size > self._segment_bytes and writer.segment.count:
            self._close(kind)
            writer = None
        if writer is None:
            self._serial += 1
            name = f"{self._serial:010}-{kind.value}.seg"
            writer = self._writers[kind] = SegmentWriter(self._folder / name)
            self._segments[kind][name] = writer.segment
            self._policy.begin(name, kind, len(MAGIC))
        return writer

    def _close(self, kind: SpoolClass) -> None:
        writer = self._writers.pop(kind)
        self._policy.close(writer.segment.path.name)
        try:
            writer.close()
        except OSError:
            self._doubtful = dict(self._numbers)
            raise

    def _distrust(self, kind: SpoolClass, error: OSError) -> None:
        """A write has failed: unless the disk is only full, what comes next begins another segment, for this one may
        hold half a frame, or lie on a disk that has been mounted anew since.
        """
        self.problem = error.strerror or str(error)
        name = self._open_name(kind)
        if name and error.errno not in _DISK_FULL:
            with suppress(OSError):
                self._close(kind)
            if not self._segments[kind][name].count:
                with suppress(OSError):
                    self._remove(kind, name)

    def _find(self) -> None:
        """Take stock of what processes before have left."""
        kinds = {kind.value: kind for kind in SpoolClass}
        ends: dict[tuple[int, str], int] = {}
        for path in sorted(self._folder.glob("*.seg")):
            serial, _, name = path.stem.partition("-")
            if not serial.isdecimal() or name not in kinds:
                continue
            self._serial = max(self._serial, int(serial))
            segment = Segment.read(path)
            if not segment.count:
                with suppress(OSError):
                    path.unlink()
                continue
            self._segments[kinds[name]][path.name] = segment
            self._policy.begin(path.name, kinds[name], segment.size, closed=True)
            self._untold += [(*hole, DAMAGED) for hole in segment.holes]
            for key, (first, end) in segment.ranges.items():
                if ends.get(key, first) < first:  # the hub knows which of these it has
                    self._untold.append((*key, ends[key], first, DAMAGED))
                ends[key] = end

    def _read(self, kind: SpoolClass, most_bytes: int, *, alone: bool) -> list[bytes]:
        """Frames behind the cursor, up to what is live. `alone`: the first one may be larger than all the room."""
        held = {stored.key for stored, _ in self._live}.union(*self._flying.values())
        frames: list[bytes] = []
        size = 0
        for name, segment in self._segments[kind].items():
            at_name, at = self._cursors.get(kind, ("", 0))
            begin = at if name == at_name else len(MAGIC)
            if name < at_name or begin >= segment.size:
                continue
            for found in records(_bytes_of(segment, begin)):
                if not self._settled(found.stored):
                    fits = size + len(found.frame) <= most_bytes or (alone and not frames)
                    if found.stored.key in held or not fits:
                        return frames
                    frames.append(bytes(found.frame))
                    size += len(found.frame)
                self._cursors[kind] = name, begin + found.end
        return frames

    def _settled(self, stored: Stored) -> bool:
        marks = self._marks.get((stored.boot, stored.stream))
        return marks is not None and stored.number in marks

    def _is_done(self, segment: Segment) -> bool:
        for key, (first, end) in segment.ranges.items():
            marks = self._marks.get(key)
            if marks is None or not marks.covers(first, end):
                return False
        return True

    def _waiting(self, segment: Segment) -> int:
        nothing = Received()
        return sum(self._marks.get(key, nothing).missing(*span) for key, span in segment.ranges.items())

    def _remove(self, kind: SpoolClass, name: str) -> Segment:
        segment = self._segments[kind][name]
        segment.path.unlink(missing_ok=True)
        del self._segments[kind][name]
        self._policy.gone(name)
        return segment

    def _give_up(self, name: str, reason: str) -> None:
        """Remove a segment that the hub does not have, and remember to say so."""
        kind = next(kind for kind, segments in self._segments.items() if name in segments)
        segment = self._remove(kind, name)
        self._untold += [(boot, stream, first, end, reason) for (boot, stream), (first, end) in segment.ranges.items()]

    def _give_up_any(self, kind: SpoolClass) -> bool:
        """Make room on a disk that is full, at the cost of what matters less; False where there is nothing."""
        for victim in (SpoolClass.MEDIA, SpoolClass.TELEMETRY):
            closed = [name for name in self._segments[victim] if name != self._open_name(victim)]
            if closed:
                self._give_up(closed[0], DISK_FULL)
                return True
            if victim is kind:
                return False
        return False

    def _open_name(self, kind: SpoolClass) -> str:
        writer = self._writers.get(kind)
        return writer.segment.path.name if writer is not None else ""

    def _tell_losses(self) -> None:
        """Write down what is lost, as an event; what finds no room now waits for the next time."""
        while self._untold:
            loss = self._untold.popleft()
            try:
                self._append(SpoolClass.EVENTS, LOSSES, msgpack.packb(loss), 0)
            except SpoolError:
                self._untold.appendleft(loss)
                return


def _bytes_of(segment: Segment, begin: int) -> bytes:
    with segment.path.open("rb") as file:
        file.seek(begin)
        return file.read(segment.size - begin)
