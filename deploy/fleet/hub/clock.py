"""The hub's time: the machine's clock, as long as that goes as time does.

Theory of operation. Nodes remember the latest time their hub has told, and believe no certificate of a hub that ended
before; nodes are admitted, and records are removed, by the hub's time. A clock that is ten years ahead for a minute
would lock the hub out of its fleet, and empty its disk. So the clock is compared with the time that was believed last
and what has passed since, by a counter that does not step:

    the clock says                    the time is
    at most 30 days ahead             what the clock says
    at most a day behind              what the clock says
    anything else                     what was believed last and what has passed since; said once

Between two processes the counter says nothing: `clock` in the hub's folder holds the time, to the hour, and a hub that
was off for more than 30 days wants that file removed. Too careful a time harms little: certificates end later.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from thalweg.models.store.bounded import read_at_most
from thalweg.transports.fleet.durable import replace_file

log = logging.getLogger(__name__)

DAY_S = 86_400.0
AHEAD_S, BEHIND_S = 30 * DAY_S, DAY_S
WRITE_S = 3600.0
FILE, LARGEST = "clock", 100


class SteadyClock:
    """Safe to be called from several threads. Raises OSError where the file cannot be read for another reason than
    that it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock = threading.Lock()
        self._counted_s = _counter_s()
        self._written_s = self._read()
        self._believed_s = self._written_s or time.time()
        self._astray = False
        self.now_s()

    def now_s(self) -> float:
        """Seconds since 1970; at most a day less than before, as long as the file stays."""
        with self._lock:
            counted_s, says_s = _counter_s(), time.time()
            expected_s = self._believed_s + counted_s - self._counted_s
            astray = not -BEHIND_S <= says_s - expected_s <= AHEAD_S
            self._counted_s, self._believed_s = counted_s, expected_s if astray else says_s
            if astray != self._astray:
                self._astray = astray
                self._say(says_s)
            if abs(self._believed_s - self._written_s) > WRITE_S:
                self._write()
            return self._believed_s

    def _say(self, says_s: float) -> None:
        if self._astray:
            log.error(
                "the clock of this machine says %s, and by what was known it is %s, which the hub goes on with; "
                "if the clock is right, end the hub and remove %s",
                _day(says_s), _day(self._believed_s), self._path,
            )  # fmt: skip
        else:
            log.warning("the clock of this machine is believed again")

    def _read(self) -> float:
        try:
            return float(read_at_most(self._path, LARGEST))
        except (FileNotFoundError, ValueError):
            return 0.0

    def _write(self) -> None:
        self._written_s = self._believed_s  # a disk that does not take it is tried again in an hour
        try:
            replace_file(self._path, str(self._believed_s).encode())
        except OSError as error:
            log.error("%s cannot be written: %s", self._path, error.strerror)


def _counter_s() -> float:
    """Goes on while the machine sleeps, and is never set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _day(time_s: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(time_s))
    except (OverflowError, ValueError, OSError):
        return f"{time_s:g} s"
