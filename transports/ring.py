"""A ring of records in memory that two processes share: one writes, one reads, nobody locks.

    offset 0     write position u64, bytes ever written; only the writer stores it
    offset 64    read position u64, bytes ever freed; only the reader stores it
    offset 128   records

    record = length u64 (all ones: skip to the start of the ring), padding to 64 bytes, data, padding to 64 bytes

Neither side ever waits here. A writer that finds no room asks again when it is told that some was freed; a reader
is told how many records there are by a message through the kernel, sent after the record was written, which is
also what orders the memory of the two processes on every kind of processor.

The memory is an anonymous file (`memfd`): it has no name, it is handed over by its descriptor, and it is gone with
the last process that has it open, however that process ended.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from thalweg.pipeline.errors import ThalwegError
from thalweg.transports.codec import Buffer

ALIGN = 64
_HEADER = 128
_SKIP = 2**64 - 1
SMALL = 1 << 18
LARGEST_RECORD = 1 << 28
_COPY_BELOW = 1 << 14


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
        try:
            self.fd = os.memfd_create("thalweg", os.MFD_CLOEXEC)
            os.ftruncate(self.fd, _HEADER + capacity)
            self._memory = mmap.mmap(self.fd, _HEADER + capacity)
        except OSError as error:
            raise RingError(f"cannot get {capacity / 1e6:.1f} MB of shared memory: {error.strerror}") from None
        self.capacity = capacity
        self._data = np.frombuffer(self._memory, np.uint8)[_HEADER:]
        words = np.frombuffer(self._memory, np.uint64, _HEADER // 8).data
        self._words = words
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
        if self._written + skip + need - int(self._words[8]) > self.capacity:
            return False
        data = self._data
        if skip:
            data[offset : offset + 8].view(np.uint64)[0] = _SKIP
            offset = 0
        data[offset : offset + 8].view(np.uint64)[0] = size
        at = offset + ALIGN
        view = data.data
        for part in parts:
            length = part.nbytes if isinstance(part, memoryview) else len(part)
            view[at : at + length] = part
            at += length
        self._written += skip + need
        self._words[0] = self._written
        return True

    @property
    def empty(self) -> bool:
        """Whether the reader has freed everything."""
        return int(self._words[8]) == self._written

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
            if size <= _HEADER or (size - _HEADER) % ALIGN:
                raise RingError(f"{size} bytes of shared memory hold no ring")
            self._memory = mmap.mmap(fd, size)
        except (OSError, ValueError) as error:
            raise RingError(f"the shared memory cannot be mapped: {error}") from None
        finally:
            os.close(fd)
        self.capacity = size - _HEADER
        self._data = np.frombuffer(self._memory, np.uint8)[_HEADER:]
        self._words = np.frombuffer(self._memory, np.uint64, _HEADER // 8).data
        self._read = 0
        self._lent: deque[list[int | bool]] = deque()
        self._lent_bytes = 0

    def read(self) -> NDArray[np.uint8]:
        """The next record, which the writer has announced. Raises RingError where there is none, or it is damaged.

        A large one is a view of the shared memory, which is freed, in order, when the last array that shows it is
        gone; a small one, or any while more than half of the ring is lent out, is a copy.
        """
        available = int(self._words[0]) - self._read
        offset = self._read % self.capacity
        if available < ALIGN or available > self.capacity:
            raise RingError("a record was announced and is not there: the writer is broken")
        size = int(self._data[offset : offset + 8].view(np.uint64)[0])
        if size == _SKIP:
            skipped = self.capacity - offset
            self._read += skipped
            self._lend(skipped, done=True)
            return self.read()
        need = ALIGN + -(-size // ALIGN) * ALIGN
        if need > available or offset + need > self.capacity:
            raise RingError("a record claims more bytes than were written: the writer is broken")
        self._read += need
        start = offset + ALIGN
        if size < _COPY_BELOW or self._lent_bytes + need > self.capacity // 2:
            record = self._data[start : start + size].copy()
            self._lend(need, done=True)
            return record
        view = np.frombuffer(self._memory, np.uint8, size, _HEADER + start)
        weakref.finalize(view, self._give_back, self._lend(need, done=False)).atexit = False
        return view

    def _lend(self, size: int, *, done: bool) -> list[int | bool]:
        loan: list[int | bool] = [size, done]
        self._lent.append(loan)
        self._lent_bytes += size
        if done:
            self._free()
        return loan

    def _give_back(self, loan: list[int | bool]) -> None:
        loan[1] = True
        self._free()

    def _free(self) -> None:
        freed = 0
        while self._lent and self._lent[0][1]:
            freed += int(self._lent.popleft()[0])
        if freed:
            self._lent_bytes -= freed
            self._words[8] = int(self._words[8]) + freed
