"""Runs a source to its end, or repeatedly if it has a retry policy for errors."""

from __future__ import annotations

import asyncio
import inspect
import logging

from thalweg.deploy.errors import describe_error
from thalweg.deploy.runtime.actor import Actor
from thalweg.deploy.runtime.hosting import Hosting
from thalweg.deploy.runtime.tasks import STAGE_ERRORS, is_cancelled
from thalweg.pipeline.errors import ReaderGone
from thalweg.pipeline.node import NodeState

log = logging.getLogger(__name__)


async def run_source(worker: Hosting, actor: Actor) -> None:
    """Run the source of an actor to its end; its errors are problems. Raises nothing except CancelledError."""
    try:
        while (pause_ns := await _until_it_raises(worker, actor)) is not None:
            await _pause(worker, actor, pause_ns)
    except asyncio.CancelledError:
        if not worker.stopped:
            raise
    actor.task = None
    actor.state = NodeState.FINISHING
    actor.busy = False
    worker.wake(actor)


async def _pause(worker: Hosting, actor: Actor, pause_ns: int) -> None:
    try:
        await asyncio.sleep(pause_ns / 1e9)
    except asyncio.CancelledError:
        worker.failed(actor, "it had not come back when the run ended", None, None, final=True)
        raise


async def _until_it_raises(worker: Hosting, actor: Actor) -> int | None:
    """Run it once. Returns the pause until the next try, ns; None if it has ended."""
    began_ns = worker.clock.now_ns()
    try:
        running = actor.stage.run(actor.ctx)
        if not inspect.isawaitable(running):
            worker.failed(actor, f"`run` of a source must be async; it gave {running!r}", None, None, final=True)
            return None
        await running
        return None
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        worker.failed(actor, "it cancelled itself", None, error, final=True)
        return None
    except STAGE_ERRORS as error:
        retry = actor.retry if isinstance(error, Exception) and not isinstance(error, ReaderGone) else None
        if retry is None or worker.stopped:
            worker.failed(actor, describe_error(error), None, error, final=True)
            return None
        again = retry.failed(began_ns, worker.clock.now_ns())
        message = f"{describe_error(error)}; it is run again in {again / 1e9:g} s"
        if retry.streak == 1:
            worker.failed(actor, message, None, error, recovered=True)
        else:  # the same trouble goes on: one night without a camera is one problem, not a thousand
            actor.failures += 1
            log.debug("stage %s: %s", actor.name, message)
        return again
