"""A lock-free ring of records in memory that two processes share: one writes, one reads.

    offset 0     write position u64, bytes ever written; only the writer stores it
    offset 64    read position u64, bytes ever freed; only the reader stores it
    offset 128   records

    record = length u64 (all ones: skip to the start of the ring), padding to 64 bytes, data, padding to 64 bytes

Neither side ever waits here. A writer that finds no room tries again when it is told that some was freed. A message
through the kernel, sent after a record was written, tells the reader of it; the message also orders the memory accesses
of the two processes on every kind of processor.

A view of the memory is released by its last holder, on any thread and at any time, in a callback that must not wait and
may run concurrently with others. The callback sets a flag that there may be something to free, and frees it unless
another thread is freeing; that thread checks the flag again before it stops. Only one thread frees at a time, and only
the reading thread lends.

The memory is an anonymous file (`memfd`): it has no name, it is handed over by its descriptor, and it is gone with
the last process that has it open, however that process ended.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.pipeline.errors import ThalwegError
from thalweg.transports.codec import Buffer

ALIGN = 64
_HEADER = 128
_WRITTEN, _READ = 0, 8  # words of the header
_SKIP = 2**64 - 1
SMALL = 1 << 18
LARGEST_RECORD = 1 << 28
_LARGEST_RING = 1 << 31
_COPY_BELOW = 1 << 14
_BROKEN = "a record was announced and is not there: the writer is broken"


class RingError(ThalwegError):
    """A ring that cannot be made, a record that is too large, or memory that holds no ring."""


def capacity_for(record_bytes: int) -> int:
    """Bytes of a ring that holds at least four records of this size. Raises RingError on one that is too large."""
    if record_bytes > LARGEST_RECORD:
        raise RingError(f"a packet of {record_bytes / 1e6:.0f} MB is too large, at most {LARGEST_RECORD / 1e6:.0f} MB")
    capacity = SMALL
    while capacity < 4 * (record_bytes + 2 * ALIGN):
        capacity *= 2
    return capacity


class RingWriter:
    """The writing end; it makes the memory. `fd` is handed to the reader and closed by `close`."""

    def __init__(self, capacity: int = SMALL) -> None:
        self.fd = -1
        try:
            self.fd = os.memfd_create("thalweg", os.MFD_CLOEXEC)
            os.ftruncate(self.fd, _HEADER + capacity)
            self._memory = mmap.mmap(self.fd, _HEADER + capacity)
        except (OSError, ValueError) as error:
            self.close()
            reason = getattr(error, "strerror", None) or error
            raise RingError(f"cannot get {capacity / 1e6:.1f} MB of shared memory: {reason}") from None
        self.capacity = capacity
        self._bytes = memoryview(self._memory)
        self._words = self._bytes.cast("Q")
        self._written = 0

    def write(self, parts: Sequence[Buffer], size: int) -> bool:
        """Copy a record of `size` bytes in; False, and nothing has happened, where there is no room now.

        Raises RingError on a record that this ring could not hold even if it were empty.
        """
        need = ALIGN + -(-size // ALIGN) * ALIGN
        if need > self.capacity // 2:
            raise RingError(f"a record of {size} bytes does not fit a ring of {self.capacity} bytes")
        offset = self._written % self.capacity
        skip = self.capacity - offset if offset + need > self.capacity else 0
        words = self._words
        if self._written + skip + need - words[_READ] > self.capacity:
            return False
        if skip:
            words[(_HEADER + offset) // 8] = _SKIP
            offset = 0
        words[(_HEADER + offset) // 8] = size
        at = _HEADER + offset + ALIGN
        view = self._bytes
        for part in parts:
            length = part.nbytes if isinstance(part, memoryview) else len(part)
            view[at : at + length] = part
            at += length
        self._written += skip + need
        words[_WRITTEN] = self._written
        return True

    @property
    def empty(self) -> bool:
        """Whether the reader has freed everything."""
        return self._words[_READ] == self._written

    def close(self) -> None:
        """Let go of the memory; the reader keeps it as long as it needs it. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class RingReader:
    """The reading end of the ring behind a descriptor, which it takes over."""

    def __init__(self, fd: int) -> None:
        try:
            size = os.fstat(fd).st_size
            if size <= _HEADER or (size - _HEADER) % ALIGN or size > _HEADER + _LARGEST_RING:
                raise RingError(f"{size} bytes of shared memory hold no ring")
            self._memory = mmap.mmap(fd, size)
        except (OSError, ValueError) as error:
            raise RingError(f"the shared memory cannot be mapped: {error}") from None
        finally:
            os.close(fd)
        self.capacity = size - _HEADER
        self._bytes = memoryview(self._memory)
        self._words = self._bytes.cast("Q")
        self._read = 0
        self._freed = 0
        self._lent: deque[_Loan] = deque()
        self._freeing = threading.Lock()
        self._look = False

    def read(self) -> bytes | NDArray[np.uint8]:
        """The next record, which the writer has announced. Raises RingError where there is none, or it is damaged.

        A large one is a read-only view of the shared memory, which is freed, in order, when the last array that shows
        it is gone; a small one, or any while more than half of the ring is lent out, is a copy.
        """
        words, capacity = self._words, self.capacity
        available = words[_WRITTEN] - self._read
        offset = self._read % capacity
        if available < ALIGN or available > capacity:
            raise RingError(_BROKEN)
        size = words[(_HEADER + offset) // 8]
        if size == _SKIP:
            self._read += capacity - offset
            self._done(capacity - offset)
            available -= capacity - offset
            offset = 0
            if available < ALIGN:
                raise RingError(_BROKEN)
            size = words[_HEADER // 8]
        need = ALIGN + -(-size // ALIGN) * ALIGN
        if need > available or offset + need > capacity:
            raise RingError("a record claims more bytes than were written: the writer is broken")
        self._read += need
        start = _HEADER + offset + ALIGN
        if size < _COPY_BELOW or self._read - self._freed > capacity // 2:
            record = bytes(self._bytes[start : start + size])
            self._done(need)
            return record
        view = np.frombuffer(self._memory, np.uint8, size, start)
        view.flags.writeable = False
        self._lent.append(_Loan(weakref.ref(view, self._give_back), need))
        return view

    @property
    def lent(self) -> bool:
        """Whether a view of this memory is still held."""
        return bool(self._lent)

    def _done(self, size: int) -> None:
        """These bytes are no longer used. They are freed once those before them are."""
        if self._lent:
            self._lent.append(_Loan(None, size))
            self._give_back(None)
        else:  # and no thread is freeing: an entry leaves the queue only after it was freed
            self._freed += size
            self._words[_READ] = self._freed

    def _give_back(self, _: object) -> None:
        """Free what is no longer held, or leave it to the thread that is freeing. Never waits."""
        self._look = True
        while self._look and self._freeing.acquire(blocking=False):
            try:
                self._look = False
                self._free()
            finally:
                self._freeing.release()

    def _free(self) -> None:
        lent = self._lent
        while lent and ((view := lent[0].view) is None or view() is None):
            self._freed += lent[0].size
            self._words[_READ] = self._freed
            lent.popleft()


@dataclass(frozen=True, slots=True)
class _Loan:
    """A view that was lent, and its bytes, which become free when it is gone; or a copy that was made meanwhile."""

    view: weakref.ref[NDArray[np.uint8]] | None
    size: int
