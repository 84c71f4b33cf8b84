"""Ownership of tasks: no task outlives the block or the object that it belongs to.

    in_thread    a call in a thread, waited for
    StageTasks   the tasks of a worker's stages: all have ended when the block does, or are left behind and named
    beside       one task next to a block: cancelled, and waited for, when the block ends

Use `asyncio.TaskGroup` where possible. It waits without a timeout for a task that ignores its cancellation, though, and
stages are third-party code: a bare `except:` around a camera must not keep a worker from ending.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from contextvars import copy_context
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

STAGE_ERRORS = (Exception, SystemExit, asyncio.CancelledError)
"""Exceptions of a stage that count as its failure and stop nothing else."""


async def in_thread(executor: Executor | None, function: Callable[..., T], *args: Any) -> T:
    """Call `function` in a thread of `executor`, with the context variables of here; returns or raises what it does."""
    return await asyncio.get_running_loop().run_in_executor(executor, copy_context().run, _called, function, *args)


def _called(function: Callable[..., T], *args: Any) -> T:
    try:
        return function(*args)
    except StopIteration as error:  # a future rejects StopIteration, so its waiter would never wake
        raise RuntimeError("it raised StopIteration") from error


def is_cancelled() -> bool:
    """Whether the current task was cancelled; otherwise the stage itself raised the CancelledError."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class StageTasks:
    """Tasks that end with the block. `left`: called with the name of each that does not, `limit_s` after `hurry`.

    A task that raises, which none should, ends the block: it cancels the others, calls `ended`, and the block raises.
    """

    def __init__(self, ended: Callable[[], None], left: Callable[[str], None], limit_s: float) -> None:
        self._ended = ended
        self._left = left
        self._limit_s = limit_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._hurry: asyncio.Future[None] | None = None
        self._closing = False

    def create_task(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` as a task of this block. Raises RuntimeError where the block is ending."""
        if self._closing:
            raise RuntimeError("the worker is ending")
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def hurry(self) -> None:
        """Wait no longer than `limit_s` for those that were cancelled. Idempotent."""
        if self._hurry is not None and not self._hurry.done():
            self._hurry.set_result(None)

    async def __aenter__(self) -> StageTasks:
        self._hurry = asyncio.get_running_loop().create_future()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        cancelled: asyncio.CancelledError | None = None
        if error is not None:
            self._cancel()
        while self._tasks:
            try:
                await self._wait()
                break
            except asyncio.CancelledError as again:
                cancelled = again
                self._cancel()
                self.hurry()
        for task in self._tasks:
            self._left(task.get_name())
        if self._error is not None and error is None:
            raise self._error
        if cancelled is not None and error is None:
            raise cancelled

    async def _wait(self) -> None:
        hurry = self._hurry
        assert hurry is not None
        while self._tasks and not hurry.done():
            await asyncio.wait({*self._tasks, hurry}, return_when=asyncio.FIRST_COMPLETED)
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=self._limit_s)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if self._error is None:
            self._error = error
            self._cancel()
            self._ended()


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Run `work` while the block lasts. Its error is raised at the end of the block, unless the block raises itself."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        yield task
    except BaseException:
        await _end(task)
        raise
    await _end(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancel, and wait until it has ended."""
    cancelled: asyncio.CancelledError | None = None
    task.cancel()
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as again:
            cancelled = again
    if not task.cancelled():
        task.exception()  # it was seen
    if cancelled is not None:
        raise cancelled
