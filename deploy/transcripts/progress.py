"""Progress of a long recording and the remaining time, on standard error."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

from thalweg.stages.io.terminal import say

_AT_TERMINAL_S, _ELSEWHERE_S = 0.5, 30.0


async def show_progress(name: str, at_s: Callable[[], float], share: Callable[[], float | None]) -> None:
    """Say now and then how far it is, until cancelled; in a terminal in one line, which is cleared at the end.

    Nothing is said of what has no name.
    """
    if not name:
        return
    terminal = sys.stderr is not None and sys.stderr.isatty()
    began_s, from_s, from_share = time.monotonic(), at_s(), share() or 0.0
    try:
        while True:
            await asyncio.sleep(_AT_TERMINAL_S if terminal else _ELSEWHERE_S)
            took_s = time.monotonic() - began_s
            line = f"{name}: {progress(at_s(), share(), at_s() - from_s, from_share, took_s)}"
            say(line, err=True, over=terminal, end="" if terminal else "\n")
    finally:
        if terminal:
            say("", err=True, over=True, end="")


def progress(at_s: float, share: float | None, done_s: float, from_share: float, took_s: float) -> str:
    """One line. `share`: of the recording, when `done_s` of it were done in `took_s`, from `from_share` on."""
    speed = f"{done_s / took_s:.0f} times as fast as spoken" if took_s > 0 and done_s > 0 else "beginning"
    if not share or share <= from_share:
        return f"{clock(at_s)}, {speed}"
    left_s = took_s * (1 - share) / (share - from_share)
    return f"{clock(at_s)} of about {clock(at_s / share)}, {share:.0%}, {speed}, {clock(left_s)} left"


def clock(seconds: float) -> str:
    """0:07, 12:34, 1:02:03."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
