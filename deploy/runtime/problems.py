"""The problems of a worker: all are counted, the first are kept for the report, and none is silent.

Theory of operation. A problem is reported when it happens, up to `BURST` at once and then one every ten seconds. Others
are counted per stage and reported in one line every `LINE_S` seconds, and at the end. So a listener learns of every
problem, and a stage that fails a thousand times a second cannot fill a disk or a terminal.

A problem is reported by `on_problem`, or logged as a warning where that is not set. An exception of the listener does
not stop the worker: it is logged, and the worker goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from thalweg.deploy.errors import Problem
from thalweg.deploy.runtime.tasks import STAGE_ERRORS

log = logging.getLogger(__name__)

KEPT = 100
BURST = 100
PAUSE_NS = 10_000_000_000
LINE_S = 10.0
_STAGES_NAMED = 5


class Problems:
    """`kept`: the first `KEPT`, of which `restored` are from an earlier incarnation; `count`: all, of which `recovered`
    lost nothing. Not thread-safe: for one event loop.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.kept: list[Problem] = []
        self.count = 0
        self.recovered = 0
        self.restored = 0
        self.on_problem: Callable[[Problem], None] | None = None
        self._now_ns = now_ns
        self._may_say = BURST
        self._since_ns = now_ns()
        self._unsaid: Counter[str] = Counter()
        self._last: dict[str, Problem] = {}
        self._line: asyncio.TimerHandle | None = None

    def note(self, problem: Problem) -> None:
        """It happened. On the loop."""
        self.count += 1
        self.recovered += problem.recovered
        if len(self.kept) < KEPT:
            self.kept.append(problem)
        if self._line is None and self._allowed():
            self.say(problem)
            return
        self._unsaid[problem.stage] += 1
        self._last[problem.stage] = problem
        if self._line is None:
            self._line = asyncio.get_running_loop().call_later(LINE_S, self.say_rest)

    def restore(self, kept: list[Problem], count: int, recovered: int) -> None:
        """Continue from the problems of an earlier incarnation, which were already reported."""
        self.restored = len(kept)
        self.kept = [*kept, *self.kept][:KEPT]
        self.count += count
        self.recovered += recovered

    def say_rest(self) -> None:
        """Report now what was only counted. Idempotent."""
        if self._line is not None:
            self._line.cancel()
            self._line = None
        rest, self._unsaid = self._unsaid, Counter()
        last, self._last = self._last, {}
        for stage, count in rest.most_common(_STAGES_NAMED):
            said = f"{count} more problems, the last of them: " if count > 1 else ""
            self.say(replace(last[stage], message=said + last[stage].message))
        others = rest.most_common()[_STAGES_NAMED:]
        if others:
            count = sum(count for _, count in others)
            message = f"{count} more problems in {len(others)} other stages"
            self.say(replace(last[others[0][0]], stage=", ".join(stage for stage, _ in others[:3]), message=message))

    def _allowed(self) -> bool:
        now_ns = self._now_ns()
        regained = (now_ns - self._since_ns) // PAUSE_NS
        if regained > 0:
            self._since_ns += regained * PAUSE_NS
            self._may_say = min(BURST, self._may_say + regained)
        if not self._may_say:
            return False
        self._may_say -= 1
        return True

    def say(self, problem: Problem) -> None:
        """Report it to the listener, without counting."""
        try:
            if self.on_problem is not None:
                self.on_problem(problem)
            else:
                turn = f" (turn {problem.epoch})" if problem.epoch else ""
                log.warning("%s%s: %s", problem.stage, turn, problem.told)
        except STAGE_ERRORS as error:
            log.warning("%s: %s; the listener `on_problem` raised", problem.stage, problem.message, exc_info=error)
