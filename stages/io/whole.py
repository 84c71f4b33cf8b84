"""Files that stages and commands write, for their owner alone: whole or not at all, or growing where everybody sees it.

WholeFile       written beside its place, and put there at the end; what was there before is replaced
GrowingFile     written in its place, and readable while it grows; what was there before is added to, or kept beside
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from thalweg.pipeline.errors import ThalwegError
from thalweg.stages.io.private import append_private, create_private


class SinkError(ThalwegError):
    """An output that cannot be written."""


class _Output:
    """After the first failure nothing is done."""

    file: IO[bytes]

    def __init__(self, path: Path, doing: str) -> None:
        self.path = path
        self._broken = False
        if path.exists() and not path.is_file():
            raise SinkError(f"cannot write {path}: it is a folder or a device, and would be {doing}")

    def attempt(self, write: Callable[[], object]) -> None:
        """Call `write`, unless an earlier attempt failed. Raises SinkError where this one fails."""
        if self._broken:
            return
        try:
            write()
        except OSError as error:
            self._broken = True
            raise SinkError(f"cannot write {self.path}: {error.strerror}; it is left out") from None

    def keep(self) -> None:
        """End the file, where nothing failed: it is in its place, and on the disk. Raises SinkError."""
        self.attempt(self._keep)

    def _keep(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()


class WholeFile(_Output):
    """A file that is written beside its place and put there by `keep`.

    Raises SinkError where it could not be put there: the folder is missing or must not be written to, or its place is
    taken by something that is no file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "replaced by a file")
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            self.file = create_private(self._part)
        except OSError as error:
            raise SinkError(f"cannot write {path}: {error.strerror}") from None

    def discard(self) -> None:
        """Leave nothing behind, if it was not kept. Idempotent."""
        with contextlib.suppress(OSError):  # what could not be flushed is thrown away anyway
            self.file.close()
        self._part.unlink(missing_ok=True)

    def _keep(self) -> None:
        super()._keep()
        self._part.replace(self.path)


class GrowingFile(_Output):
    """A file that is written in its place. `add`: behind what is there; otherwise that is kept beside it, under a name
    with the time that it was last written: `rows.jsonl` becomes `rows-20261129-091502.jsonl`.

    Raises SinkError where it cannot be written, or its place is taken by something that is no file of ours.
    """

    def __init__(self, path: Path, *, add: bool) -> None:
        super().__init__(path, "written to")
        try:
            if not add:
                _set_aside(path)
            self.file = append_private(path) if add else create_private(path)
            if add:
                _end_line(self.file)
        except OSError as error:
            raise SinkError(f"cannot write {path}: {error.strerror}") from None

    def attempt(self, write: Callable[[], object]) -> None:
        """As of every output; what was written can be read at once."""

        def written() -> None:
            write()
            if not self.file.closed:
                self.file.flush()

        super().attempt(written)

    def discard(self) -> None:
        """Close it. What was written stays: it was seen. Idempotent."""
        with contextlib.suppress(OSError):
            self.file.close()


def _set_aside(path: Path) -> None:
    """Give what is at `path` a name of its own."""
    try:
        at = time.strftime("%Y%m%d-%H%M%S", time.localtime(path.stat().st_mtime))
    except FileNotFoundError:
        return
    beside = path.with_name(f"{path.stem}-{at}{path.suffix}")
    number = 1
    while True:
        try:
            os.link(path, beside)  # which never takes another's place
            path.unlink()
            return
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            if not beside.exists():
                path.rename(beside)
                return
        number += 1
        beside = path.with_name(f"{path.stem}-{at}-{number}{path.suffix}")


def _end_line(file: IO[bytes]) -> None:
    """Behind a line that was torn by a crash, a new one begins."""
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
