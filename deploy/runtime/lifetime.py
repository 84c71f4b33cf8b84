"""From open to closed: a stage that was opened is closed exactly once, also if its opening is abandoned.

Theory of operation. `open` and `close` may be plain functions, and then run in a thread, which cannot be stopped. So a
lock between the thread that opens and the loop that closes decides whether a stage is open:

    state     event                          next      effect
    NEW       `open` returned                OPEN
    NEW       the worker closes              LEFT      nothing yet: it is not open
    LEFT      `open` returned after all      CLOSED    its own thread closes it
    OPEN      the worker closes              CLOSED    `close` is called

Stages are opened concurrently and closed concurrently, each `close` in a thread of its own, so that one that hangs
delays no other. The wait is bounded: `CLOSE_S`, and `HURRIED_S` once the run is aborted. A thread that does not return
by then is abandoned and reported; it does not prevent the process from ending.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from enum import Enum
from threading import Lock, Thread
from typing import Any, TypeVar

from thalweg.deploy.errors import StartError, describe_error
from thalweg.deploy.runtime.hosting import HostedStage
from thalweg.deploy.runtime.tasks import STAGE_ERRORS, in_thread, is_cancelled
from thalweg.pipeline.hooks import is_async

T = TypeVar("T")

log = logging.getLogger(__name__)

CLOSE_S = 60.0
HURRIED_S = 1.0


class LifetimeState(Enum):
    """See the table above."""

    NEW = "new"
    OPEN = "open"
    LEFT = "left"
    CLOSED = "closed"


TRANSITIONS: Mapping[LifetimeState, frozenset[LifetimeState]] = {
    LifetimeState.NEW: frozenset({LifetimeState.OPEN, LifetimeState.LEFT}),
    LifetimeState.OPEN: frozenset({LifetimeState.CLOSED}),
    LifetimeState.LEFT: frozenset({LifetimeState.CLOSED}),
    LifetimeState.CLOSED: frozenset(),
}
"""The table above as data: state → possible next states, without itself."""


class Lifetime:
    """Of one stage; see the table above. One without `open` is open from the beginning."""

    def __init__(self, stage: Any) -> None:
        self._lock = Lock()
        self._state = LifetimeState.NEW if hasattr(stage, "open") else LifetimeState.OPEN

    def opened(self) -> bool:
        """`open` has returned. False: the stage is no longer wanted, so the caller must close it."""
        with self._lock:
            wanted = self._state is LifetimeState.NEW
            self._state = LifetimeState.OPEN if wanted else LifetimeState.CLOSED
            return wanted

    def leave(self) -> bool:
        """The worker closes: whether the stage is open, and is to be closed by it. Once."""
        with self._lock:
            was_open = self._state is LifetimeState.OPEN
            self._state = (
                LifetimeState.CLOSED if was_open or self._state is LifetimeState.CLOSED else LifetimeState.LEFT
            )
            return was_open


class _OwnThread(Executor):
    """Runs calls in a daemon thread of its own, for which the process does not wait at its end."""

    def __init__(self, name: str) -> None:
        self._name = name

    def submit(self, function: Callable[..., T], /, *args: Any, **named: Any) -> Future[T]:
        """See `Executor.submit`."""
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function(*args, **named)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        Thread(target=work, name=self._name, daemon=True).start()
        return future


async def call(actor: HostedStage, function: Callable[..., Any], *args: Any, executor: Executor | None = None) -> Any:
    """Call a method of a stage: a plain one on the stage's thread, or on `executor`."""
    if is_async(function):
        return await function(*args)
    result = await in_thread(executor or actor.executor, function, *args)
    return await result if inspect.isawaitable(result) else result


async def open_stages(actors: Iterable[HostedStage]) -> None:
    """Open all stages concurrently. Raises StartError with the error of each that failed; the others are open then."""
    opening = [actor for actor in actors if hasattr(actor.stage, "open")]
    wrong = [
        (actor, error)
        for actor, error in zip(opening, await asyncio.gather(*map(_open, opening)), strict=True)
        if error is not None
    ]
    if wrong:
        lines = (f"stage {actor.name}: {describe_error(error)}" for actor, error in wrong)
        raise StartError("\n".join(lines)) from wrong[0][1]


async def _open(actor: HostedStage) -> BaseException | None:
    try:
        if is_async(actor.stage.open):
            await actor.stage.open(actor.ctx)
        else:
            late = await in_thread(actor.executor, _open_here, actor)
            if late is None:
                return None
            await late
    except STAGE_ERRORS as error:
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            raise
        return error
    if not actor.lifetime.opened() and hasattr(actor.stage, "close"):
        await call(actor, actor.stage.close, executor=_OwnThread(f"{actor.name}-close"))
    return None


def _open_here(actor: HostedStage) -> Any:
    """Open a stage in this thread; something to await where its plain `open` was none."""
    result = actor.stage.open(actor.ctx)
    if inspect.isawaitable(result):
        return result
    if not actor.lifetime.opened() and hasattr(actor.stage, "close"):
        try:
            closing = actor.stage.close()
            if inspect.iscoroutine(closing):
                asyncio.run(closing)
        except Exception as error:
            log.warning("stage %s, which was opened too late, did not close: %s", actor.name, describe_error(error))
    return None


async def close_stages(actors: Iterable[HostedStage], hurried: asyncio.Future[None]) -> None:
    """Close the stages that are open. `hurried`: once set, wait no longer than `HURRIED_S`.

    An error is a problem of its stage. After a cancellation it hurries, and raises CancelledError at the end.
    """
    loop = asyncio.get_running_loop()
    leaving = [actor for actor in actors if actor.lifetime.leave() and hasattr(actor.stage, "close")]
    closing = {loop.create_task(_close(actor)): actor for actor in leaving}
    cancelled: asyncio.CancelledError | None = None
    until_s = began_s = loop.time()
    until_s += CLOSE_S
    while waiting := {task for task in closing if not task.done()}:
        if hurried.done():
            until_s = min(until_s, loop.time() + HURRIED_S)
        try:
            watched: set[asyncio.Future[None]] = {*waiting} if hurried.done() else {*waiting, hurried}
            await asyncio.wait(watched, timeout=max(0.0, until_s - loop.time()), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as error:
            cancelled = error
            if not hurried.done():
                hurried.set_result(None)
        if loop.time() >= until_s:
            break
    for task, actor in closing.items():
        if not task.done():
            task.cancel()
            waited = f"{loop.time() - began_s:.0f} s" if not hurried.done() else f"{HURRIED_S:g} s"
            actor.worker.failed(actor, f"did not close within {waited} and is left behind", None, None)
    if cancelled is not None:
        raise cancelled


async def _close(actor: HostedStage) -> None:
    try:
        await call(actor, actor.stage.close, executor=_OwnThread(f"{actor.name}-close"))
    except STAGE_ERRORS as error:
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            raise
        actor.worker.failed(actor, describe_error(error), None, error)
