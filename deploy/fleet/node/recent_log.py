"""The newest lines that agent and pipeline have written, for visitors of the hub's page."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from thalweg.pipeline.text import printable

LINES, LONGEST, TAIL_BYTES = 40, 200, 16 << 10


class RecentLog(logging.Handler):
    """Keeps what the agent's modules log from `info` on; `lines` also reads the end of the pipeline's log."""

    def __init__(self, pipeline_log: Callable[[], Path]) -> None:
        super().__init__(logging.INFO)
        self._newest: deque[str] = deque(maxlen=LINES)
        self._pipeline_log = pipeline_log

    def emit(self, record: logging.LogRecord) -> None:
        """One line of the agent's own."""
        said = record.getMessage().partition("\n")[0]
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        self._newest.append(printable(f"{at} {record.levelname} {said}", LONGEST))

    def lines(self) -> dict[str, list[str]]:
        """Who → its newest lines, oldest first."""
        return {"agent": list(self._newest), "pipeline": tail(self._pipeline_log())}


def tail(path: Path) -> list[str]:
    """The last lines of a file, as text; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            found = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line[:LONGEST] for line in found[1 if size > TAIL_BYTES else 0 :][-LINES:]]
