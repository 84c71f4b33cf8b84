"""The test kit: asyncio under a virtual clock, so that an hour of timeouts takes no time and is exact.

Theory of operation. An event loop sleeps in one place, in `select`, for as long as its next timer is away.
`VirtualLoop` does not sleep there: it looks at what is ready and moves the clock on instead. As long as a
thread of an executor is at work it waits for real and the clock stands still, so a computation takes no
virtual time. A loop with nothing ready, no timer and no thread can never go on; that is reported instead of
hanging.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.errors import ThalwegError

T = TypeVar("T")


class DeadlockError(ThalwegError):
    """Every task waits for another one, and no timer would ever wake any."""


class _JumpingSelector(selectors.DefaultSelector):
    """Asks what is ready, without waiting, and moves the clock by the time it was asked to wait."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.clock = clock
        self.threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.threads:
            return super().select(timeout if timeout == 0 else None)
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise DeadlockError("all tasks wait, and no timer is set that would wake one")
        self.clock.advance_to(self.clock.now_ns() + max(1, round(timeout * 1e9)))
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is `clock`'s; `asyncio.sleep` and `asyncio.timeout` are exact and instant."""

    def __init__(self, clock: VirtualClock | None = None) -> None:
        self.clock = clock or VirtualClock()
        self._jumping = _JumpingSelector(self.clock)
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds of the virtual clock."""
        return self.clock.now_ns() / 1e9

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """As asyncio's; the virtual clock stands still until `func` has returned."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self) -> None:
        """As asyncio's: wait, for real, until every thread has ended."""
        self._jumping.threads += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._jumping.threads -= 1

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self._jumping.threads -= 1


def run_virtual(main: Coroutine[Any, Any, T], clock: VirtualClock | None = None) -> T:
    """Run `main` to its end under a virtual clock and return what it returns.

    Raises what `main` raises, and DeadlockError where it would wait for ever.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        return runner.run(main)
