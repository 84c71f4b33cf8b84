"""What nodes have sent, on the hub's disk: a record is acknowledged once it is there, and each is kept once.

    nodes/NAME/records/0000000001.seg …   segments as a node's, frames as they came
    nodes/NAME/records/marks.json         what had been received when the newest segment was begun

What was received is known after a start from the marks and the segments since. A hub that was restored from an old copy
knows less than it has acknowledged: nodes say which numbers they no longer have, and those are noted as gone.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgpack

from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.hub.pictures import Picture, picture_in
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.received import Arrival, Received
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.transports.fleet.durable import replace_file, synced_bytes
from thalweg.transports.fleet.losses import GONE, LOSSES, OTHER, REASONS, Loss, told_losses
from thalweg.transports.fleet.segment import BY_CHANCE, MAGIC, SegmentWriter, Stored, pack, records

NOTES: Final = "~gone"
"""The hub's own notes of what nodes no longer have; no node has a stream of this name."""
SEGMENT_BYTES = 16 << 20
NEWEST, OUTCOMES = 50, 20
LARGEST_SHOWN = 16 << 10
MOST_PICTURES = 6
"""Streams of which the newest picture is remembered."""
MOST_MARKS = 50_000
MOST_STREAMS = 5000
"""Of one report."""
Marks = dict[tuple[int, str], Received]


class KeptRecord(NamedTuple):
    """Where a record lies on the disk."""

    path: Path
    at: int
    size: int
    time_ns: int
    boot: int
    number: int

    def follows(self, before: KeptRecord) -> bool:
        """Whether it was made after another one of its stream: not by the node's clock, which steps."""
        if self.boot == before.boot or max(self.boot, before.boot) < BY_CHANCE:
            return (self.boot, self.number) >= (before.boot, before.number)
        return True


class Look(NamedTuple):
    """What `NodeRecords` holds at a moment; it does not change any more."""

    counts: dict[str, int]
    lost: dict[str, int]
    newest: tuple[Stored, ...]
    pictures: dict[str, KeptRecord]
    outcomes: tuple[Stored, ...] = ()
    """What has become of commands and requests, the newest."""


class NodeRecords:
    """Those of one node. `now_s`: the hub's time. `newest`: the newest events, of large ones only their size; `counts`:
    received by class, known ones; `lost`: by reason. Blocking; safe to be called from several threads, which look at
    what changes by `look`.

    Raises OSError where the folder cannot be used; FleetError on marks that are none.
    """

    def __init__(self, folder: Path, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self.newest: deque[Stored] = deque(maxlen=NEWEST)
        self._outcomes: deque[Stored] = deque(maxlen=OUTCOMES)
        self.counts: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self._folder = folder
        self._lock = threading.RLock()
        self._marks: Marks = {}
        self._since = 0  # the segments before this one are in the marks on the disk
        self._writer: SegmentWriter | None = None
        self._pictures: dict[str, KeptRecord] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._serial = self._load()

    @property
    def newest_boot(self) -> int:
        """The highest boot of any record; 0 where there is none. Those that a node took by chance do not count."""
        return max((boot for boot, _ in self._marks if boot < BY_CHANCE), default=0)

    def receive(self, body: bytes) -> list[list[Any]]:
        """Store what is new of these frames, force it to the disk, and return the marks of the streams it is of."""
        with self._lock:
            return self._receive(body)

    def _receive(self, body: bytes) -> list[list[Any]]:
        working: Marks = {}
        fresh: list[tuple[Stored, bytes]] = []
        known: Counter[str] = Counter()
        for found in records(body):
            stored = found.stored
            key = stored.boot, stored.stream
            if stored.stream == NOTES or (key not in working and not self._has_room(key, len(working))):
                continue  # not acknowledged either: no node of ours has so many streams, or this one
            if key not in working:
                working[key] = Received.from_plain(self._received(*key).plain())
            arrival = working[key].take(stored.number)
            if arrival is Arrival.NEW:
                fresh.append((stored, bytes(found.frame)))
            else:
                known[arrival.value] += 1
        self._store(fresh)
        self._marks |= working
        self.counts += known
        for stored, _ in fresh:
            self._note(stored)
        return [[boot, stream, self._received(boot, stream).plain()] for boot, stream in working]

    def floors(self, lowest: list[tuple[int, str, int]]) -> list[list[Any]]:
        """The node has nothing below these numbers any more, and nothing of boots before the lowest, whose marks are
        forgotten; returns the marks of all these streams.
        """
        with self._lock:
            return self._settle_below(lowest)

    def _settle_below(self, lowest: list[tuple[int, str, int]]) -> list[list[Any]]:
        gone: list[Loss] = []
        for boot, stream, floor in lowest:
            if self._received(boot, stream).missing(0, floor) and self._has_room((boot, stream), len(gone)):
                gone.append((boot, stream, 0, floor, GONE))
        if gone:
            notes = [
                Stored(kind=SpoolClass.EVENTS, boot=0, stream=NOTES, number=n, time_ns=0, payload=msgpack.packb(note))
                for n, note in enumerate(gone)
            ]
            self._store([(note, pack(note)) for note in notes])
            for note in notes:
                self._note(note)
        if 0 < len(lowest) < MOST_STREAMS:  # more were cut off
            oldest = min(boot for boot, _, _ in lowest)
            self._marks = {key: received for key, received in self._marks.items() if key[0] >= oldest}
        return [[boot, stream, self._received(boot, stream).plain()] for boot, stream, _ in lowest]

    def remove_before(self, time_s: float) -> int:
        """Remove segments that were last written before this time, seconds since 1970; returns how many. What was in
        them stays received and counted. The newest one stays: what it holds is in no marks yet.
        """
        removed = 0
        with self._lock:
            for path in self._folder.glob("*.seg"):
                if int(path.stem) < self._since and path.stat().st_mtime < time_s:
                    path.unlink()
                    removed += 1
        return removed

    def look(self) -> Look:
        """How things are at a moment."""
        with self._lock:
            newest, outcomes = tuple(self.newest), tuple(self._outcomes)
            return Look(dict(self.counts), dict(self.lost), newest, dict(self._pictures), outcomes)

    def picture(self, stream: str) -> tuple[Picture, int] | None:
        """The newest picture of a stream, and its time, ns by the node's clock; None where there is none any more."""
        kept = self.look().pictures.get(stream)
        if kept is None:
            return None
        try:
            with kept.path.open("rb") as file:
                file.seek(kept.at)
                frame = file.read(kept.size)
        except FileNotFoundError:  # removed as too old
            return None
        found = next((picture_in(found.stored.payload) for found in records(frame)), None)
        return None if found is None else (found, kept.time_ns)

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()

    def _received(self, boot: int, stream: str) -> Received:
        """The marks of a stream, to look at: none are begun here."""
        return self._marks.get((boot, stream), Received())

    def _has_room(self, key: tuple[int, str], more: int = 0) -> bool:
        return key in self._marks or len(self._marks) + more < MOST_MARKS

    def _store(self, fresh: list[tuple[Stored, bytes]]) -> None:
        if not fresh:
            return
        writer = self._writer
        if writer is None or writer.segment.size > SEGMENT_BYTES:
            writer = self._begin()
        for stored, frame in fresh:
            at = writer.segment.size
            writer.append(stored, frame)
            self._note_picture(stored, _kept(stored, writer.segment.path, at, len(frame)))
        writer.sync()

    def _note(self, stored: Stored) -> None:
        """Take account of a record that is stored."""
        if stored.stream in (LOSSES, NOTES):
            for boot, stream, first, end, why in told_losses([stored.payload]):
                if not self._has_room((boot, stream)):
                    continue
                received = self._marks.setdefault((boot, stream), Received())
                missing = received.missing(first, end)
                if received.settle(first, end):
                    self.lost[why] += missing
            return
        self.counts[stored.kind.value] += 1
        if stored.kind is SpoolClass.EVENTS:
            self.newest.append(_small(stored))
            if stored.stream == "commands" or stored.stream.endswith(".outcome"):
                self._outcomes.append(_small(stored))

    def _note_picture(self, stored: Stored, kept: KeptRecord) -> None:
        """Remember where the newest picture of a stream lies, of so many streams as the page shows."""
        known = self._pictures.get(stored.stream)
        if stored.kind is not SpoolClass.MEDIA or (known is None and len(self._pictures) >= MOST_PICTURES):
            return
        if (known is None or kept.follows(known)) and picture_in(stored.payload) is not None:
            self._pictures[stored.stream] = kept

    def _begin(self) -> SegmentWriter:
        """A new segment, and before it the marks of all before. The one before gets the hub's time, which is not always
        what the system writes.
        """
        self.close()
        with suppress(FileNotFoundError):
            os.utime(self._path(self._serial), (self._now_s(),) * 2)
        self._serial += 1
        state = {
            "serial": self._serial,
            "marks": [[boot, stream, received.plain()] for (boot, stream), received in self._marks.items()],
            "counts": dict(self.counts),
            "lost": dict(self.lost),
        }
        if self._serial > 1:
            replace_file(self._folder / "marks.json", json.dumps(state).encode())
            self._since = self._serial
        self._writer = SegmentWriter(self._path(self._serial))
        return self._writer

    def _path(self, serial: int) -> Path:
        return self._folder / f"{serial:010}.seg"

    def _load(self) -> int:
        """Read what is there; returns the number of the newest segment."""
        since = 0
        try:
            state = json.loads((self._folder / "marks.json").read_bytes())
            self._marks = {(boot, stream): Received.from_plain(plain) for boot, stream, plain in state["marks"]}
            self.counts, since = Counter(state["counts"]), state["serial"]
            for why, count in state["lost"].items():
                self.lost[why if why in REASONS else OTHER] += count
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, ThalwegError) as error:
            raise FleetError(f"{self._folder / 'marks.json'} cannot be read: {error}; restore it from a copy") from None
        serial = self._since = since
        for path in sorted(self._folder.glob("*.seg")):
            serial = max(serial, int(path.stem))
            if int(path.stem) < since:
                continue
            for found in records(synced_bytes(path), len(MAGIC)):
                stored = found.stored
                if stored.stream != NOTES:
                    self._marks.setdefault(stored.key[:2], Received()).take(stored.number)
                self._note(stored)
                size = len(found.frame)
                self._note_picture(stored, _kept(stored, path, found.end - size, size))
        return serial


def _kept(stored: Stored, path: Path, at: int, size: int) -> KeptRecord:
    return KeptRecord(path, at, size, stored.time_ns, stored.boot, stored.number)


def _small(stored: Stored) -> Stored:
    """A record to be kept in memory: it holds no part of what it came with."""
    size = len(stored.payload)
    kept = bytes(stored.payload) if size <= LARGEST_SHOWN else msgpack.packb(f"{size} bytes")
    return replace(stored, payload=kept)
