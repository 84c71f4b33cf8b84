"""The rounds of a benchmark: each is announced, and bounded; a peer that does not keep to the bound is left out.

Announced on standard error: in a terminal as a bar with the time the round has taken; elsewhere as a line for each, and
another for every half minute it takes.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from thalweg.deploy.console import Console
from thalweg.pipeline.errors import ThalwegError
from thalweg.stages.io.terminal import say

OURS = "thalweg"
LIMIT_S = 300.0
AGAIN_S = 10.0
"""After the limit, how often what has not ended is interrupted once more: it may be closing, and hang in that."""
EVERY_S = 30.0
T = TypeVar("T")


class RoundError(ThalwegError):
    """A round of ours that did not end in time."""


class LeftOut(RoundError):
    """A peer that cannot be measured here; the message is the reason."""


class _Overdue(KeyboardInterrupt):
    """The time limit of a round. A KeyboardInterrupt, since an event loop always lets that pass."""


class Rounds:
    """Measures systems round by round and keeps `notes` of who was left out. For the main thread.

    `limit_s`, if given, takes the place of every round's own limit.
    """

    def __init__(self, bench: str, notes: list[str], limit_s: float | None = None) -> None:
        self.left_out: set[str] = set()
        self._bench = bench
        self._notes = notes
        self._limit_s = limit_s
        self._total: int | None = None
        self._begun = 0
        self._tell: Callable[[str], None] = lambda _: None

    def expect(self, count: int) -> None:
        """So many rounds are to come, besides those that were announced before."""
        self._total = self._begun + count

    def ours(self, what: str, measure: Callable[[], T], limit_s: float = LIMIT_S, *, system: str = OURS) -> T:
        """What `measure` returns. Raises RoundError where it has not ended after `limit_s`, and what `measure` raises.

        What `measure` starts it must end when it is interrupted.
        """
        limit_s = self._begin(system, what, limit_s)
        try:
            with _bounded(limit_s):
                return measure()
        except _Overdue:
            raise RoundError(f"bench {self._bench}: {system} is given up: {_late(limit_s, what)}") from None

    def peer(self, system: str, what: str, measure: Callable[[], T], limit_s: float = LIMIT_S) -> T | None:
        """What `measure` finds; None of a peer that is left out, now or before: `notes` has the reason.

        Left out is one that raises, or has not ended after `limit_s`; then it is interrupted, as with `ours`.
        """
        if system in self.left_out:
            self._begun += 1
            return None
        limit_s = self._begin(system, what, limit_s)
        try:
            with _bounded(limit_s):
                return measure()
        except _Overdue:
            self.leave_out(system, _late(limit_s, what))
        except LeftOut as error:
            self.leave_out(system, str(error))
        except Exception as error:  # any exception of another system is a finding about it
            self.leave_out(system, f"{type(error).__name__}: {str(error)[:200]}")
        return None

    def _begin(self, system: str, what: str, limit_s: float) -> float:
        self._begun += 1
        self._tell(f"{system}: {what}" if what else system)
        return limit_s if self._limit_s is None else self._limit_s

    def mention(self, what: str) -> None:
        """Say how far a long round has come."""
        self._tell(f"{OURS}: {what}")

    def leave_out(self, system: str, reason: str) -> None:
        """Leave a peer out from here on, and note why."""
        self.left_out.add(system)
        self._notes.append(f"{system} is left out: {reason}")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Announce rounds in the meantime."""
        terminal = sys.stderr is not None and sys.stderr.isatty()
        with self._in_a_bar() if terminal else self._in_lines():
            try:
                yield
            finally:
                self._tell = lambda _: None

    @contextmanager
    def _in_a_bar(self) -> Iterator[None]:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(err=True), transient=True) as progress:
            task = progress.add_task(f"bench {self._bench}", total=None)

            def tell(what: str) -> None:
                progress.reset(task, description=what, completed=self._begun - 1, total=self._total)

            self._tell = tell
            yield

    @contextmanager
    def _in_lines(self) -> Iterator[None]:
        ended = threading.Event()
        now = ("", 0.0)

        def tell(what: str) -> None:
            nonlocal now
            of = "" if self._total is None else f" ({self._begun} of {self._total})"
            now = f"bench {self._bench}: {what}{of}", time.monotonic()
            say(now[0], err=True)

        def remind() -> None:
            while not ended.wait(EVERY_S):
                what, since_s = now
                if what:
                    say(f"{what}: {time.monotonic() - since_s:.0f} s", err=True)

        self._tell = tell
        reminding = threading.Thread(target=remind, name="bench-rounds")
        reminding.start()
        try:
            yield
        finally:
            ended.set()
            reminding.join()


def _late(limit_s: float, what: str) -> str:
    return f"it did not end within {limit_s:g} s" + (f" ({what})" if what else "")


@contextmanager
def _bounded(limit_s: float) -> Iterator[None]:
    """Raise _Overdue in the main thread once the time is over, and again where that is held up."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(_: int, __: FrameType | None) -> None:
        raise _Overdue

    before = signal.signal(signal.SIGALRM, ring)
    began_s, left_s = time.monotonic(), signal.setitimer(signal.ITIMER_REAL, limit_s, AGAIN_S)
    try:
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)  # may be interrupted once, by the last alarm
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left_s[0]:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left_s[0] - (time.monotonic() - began_s)), left_s[1])
