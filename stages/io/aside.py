"""Writing to a terminal from a thread of its own, so that a paused terminal, or one without a reader, blocks no one."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import TextIO

from thalweg.pipeline.errors import ThalwegError
from thalweg.stages.io.terminal import write

PIECES = 10_000


class Aside:
    """What is put here is written in order, at once where that can be. `lost`: pieces left out since the terminal had
    not taken the `PIECES` before them. `put` may be called from any thread, and never waits.
    """

    def __init__(self, *, err: bool = False) -> None:
        self.lost = 0
        self._err = err
        self._pieces: deque[tuple[str, TextIO | None]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._error: ThalwegError | None = None
        self._closed = False

    def put(self, text: str, stream: TextIO | None = None) -> None:
        """Have a text written, which is fit to be printed. `stream`: what stands for it just now.

        Raises what an earlier one met: ReaderGone, OutputLost.
        """
        with self._changed:
            error, self._error = self._error, None
            if error is not None:
                raise error
            if len(self._pieces) >= PIECES:
                self.lost += 1
                return
            self._pieces.append((text, stream or (sys.stderr if self._err else sys.stdout)))
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="terminal", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self, within_s: float | None = None) -> None:
        """Wait until everything is written, and end. Raises as `put`. Idempotent."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pieces, within_s)
            self._closed = True
            self._changed.notify_all()
            error, self._error = self._error, None
        if error is not None:
            raise error

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pieces or self._closed)
                if not self._pieces:
                    self._thread = None
                    return
                text, stream = self._pieces[0]
            try:
                write(text, err=self._err, stream=stream)
            except ThalwegError as error:
                self._error = error
            except ValueError:  # the stream was closed
                self._pieces.clear()
            with self._changed:
                if self._pieces:
                    self._pieces.popleft()
                self._changed.notify_all()
