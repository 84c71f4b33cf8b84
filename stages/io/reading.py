"""The bytes of a file or pipe: opened once, read once, from the beginning.

FFmpeg is never given a name: it would take the part before a colon for a protocol, `%d` for a series of pictures, and
open a pipe a second time. It is given a `Source` instead.
"""

from __future__ import annotations

import os
import re
import select
import stat
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from thalweg.pipeline.errors import ThalwegError

STANDARD_INPUT = Path("-")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_INHERITED = re.compile(r"/dev/(?:stdin|fd/(\d+))|/proc/self/fd/(\d+)")
_WAIT_MS = 100


class MediaError(ThalwegError):
    """Sound or pictures that cannot be read; the message is a sentence that names the file."""


class Stopped(Exception):
    """The reader was told to stop."""


class Source:
    """The bytes at `path`; `-` is standard input.

    `size`: where it ends, None of a pipe, whose reader waits for what is written, until `stop` is set. What was read is
    gone, except by `peek`; of files `read_at` reads anywhere. Raises MediaError where there is nothing to read, and
    Stopped from any call that waits.
    """

    def __init__(self, path: Path, stop: threading.Event | None = None) -> None:
        self.name = "standard input" if path == STANDARD_INPUT else str(path)
        self.suffix = path.suffix
        self.position = 0
        self.size: int | None = None
        self._stop = stop or threading.Event()
        self._ahead = bytearray()
        self._poll: select.poll | None = None
        self._fd = _open(path, self.name)
        try:
            self._look()
        except BaseException:
            self.close()
            raise

    def peek(self, least: int, most: int = 0) -> bytes:
        """The next `least` bytes or more without taking them; fewer only where there are no more."""
        most = max(least, most)
        while len(self._ahead) < least and (more := self._more(most - len(self._ahead))):
            self._ahead += more
        return bytes(self._ahead[:most])

    def read(self, size: int) -> bytes:
        """The next bytes: at least one and at most `size`, none at the end."""
        if self._ahead:
            taken = bytes(self._ahead[:size])
            del self._ahead[:size]
        else:
            taken = self._more(size)
        self.position += len(taken)
        return taken

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes of a file from `offset` on; fewer than `size` only where there are no more."""
        found = b""
        while len(found) < size and (more := self._guarded(os.pread, size - len(found), offset + len(found))):
            found += more
        return found

    def seek(self, offset: int) -> None:
        """Go on from there, in a file."""
        self._ahead.clear()
        self.position = os.lseek(self._fd, offset, os.SEEK_SET)

    def keep(self) -> None:
        """Take all that comes of a pipe into a nameless file, which can be sought in."""
        kept = tempfile.TemporaryFile(buffering=0)
        try:
            while part := self.read(1 << 20):
                kept.write(part)
        except OSError as error:
            kept.close()
            raise MediaError(f"{self.name} cannot be kept in {tempfile.gettempdir()}: {error.strerror}") from None
        except BaseException:
            kept.close()
            raise
        os.close(self._fd)
        self._fd = os.dup(kept.fileno())
        kept.close()
        self._poll = None
        self.size = os.fstat(self._fd).st_size
        self.seek(0)

    def close(self) -> None:
        """Let go of it. Idempotent."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _look(self) -> None:
        kind = os.fstat(self._fd).st_mode
        if stat.S_ISDIR(kind):
            raise MediaError(f"{self.name} is a folder, expected a file")
        if stat.S_ISREG(kind) or stat.S_ISBLK(kind):
            self.size = os.lseek(self._fd, 0, os.SEEK_END)
            os.lseek(self._fd, 0, os.SEEK_SET)
            return
        if os.isatty(self._fd):
            raise MediaError(f"{self.name} is a terminal: put a recording into it with `< FILE` or `COMMAND |`")
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def _more(self, size: int) -> bytes:
        while self._poll is not None and not self._poll.poll(_WAIT_MS):
            if self._stop.is_set():
                raise Stopped
        return self._guarded(os.read, size)

    def _guarded(self, read: Callable[..., bytes], *args: int) -> bytes:
        if self._stop.is_set():
            raise Stopped
        try:
            return read(self._fd, *args)
        except OSError as error:
            at = self.position + len(self._ahead)
            raise MediaError(f"{self.name} cannot be read on after {at} bytes: {error.strerror}") from None


def comes_by_pipe(path: Path) -> bool:
    """Whether `path` is a stream, which can be read only once and as it is written: a pipe, a socket, a terminal."""
    try:
        kind = os.fstat(0).st_mode if path == STANDARD_INPUT else path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISBLK(kind) or stat.S_ISDIR(kind))


def _open(path: Path, name: str) -> int:
    if path == STANDARD_INPUT:
        return _inherited(0, name)
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe that has no writer yet is waited for
    except FileNotFoundError:
        raise MediaError(_missing(path)) from None
    except OSError as error:
        match = _INHERITED.fullmatch(str(path))
        if match is not None:  # a socket, which is no name's to open
            return _inherited(int(match[1] or match[2] or 0), name)
        raise MediaError(f"{name} cannot be opened: {error.strerror}") from None
    except ValueError:
        raise MediaError(f"{name!r} is no name of a file: there is a zero byte in it") from None


def _inherited(fd: int, name: str) -> int:
    try:
        return os.dup(fd)
    except OSError:
        raise MediaError(f"{name} is not open") from None


def _missing(path: Path) -> str:
    text = str(path)
    if _ADDRESS.match(text):
        return f"{text} is an address, not a file: fetch it first, as in `curl -sL ADDRESS | thalweg …` from /dev/stdin"
    if path.is_symlink():
        return f"{text} is a link to {os.readlink(path)}, which does not exist"
    return f"{text} does not exist"
