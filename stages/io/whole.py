"""Files that are there whole or not at all, for their owner alone: written beside their place, put there at the end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from thalweg.pipeline.errors import ThalwegError
from thalweg.stages.io.private import create_private


class SinkError(ThalwegError):
    """An output that cannot be written."""


class WholeFile:
    """A file that is written beside its place and put there by `keep`. After the first failure nothing is done.

    Raises SinkError where it could not be put there: the folder is missing or must not be written to, or its place is
    taken by something that is no file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._broken = False
        if path.exists() and not path.is_file():
            raise SinkError(f"cannot write {path}: it is a folder or a device, and would be replaced by a file")
        try:
            self.file: IO[bytes] = create_private(self._part)
        except OSError as error:
            raise SinkError(f"cannot write {path}: {error.strerror}") from None

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
        """Put the file in its place, where nothing failed. Raises SinkError."""
        self.attempt(self._keep)

    def discard(self) -> None:
        """Leave nothing behind, if it was not kept. Idempotent."""
        with contextlib.suppress(OSError):  # what could not be flushed is thrown away anyway
            self.file.close()
        self._part.unlink(missing_ok=True)

    def _keep(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        self._part.replace(self.path)
