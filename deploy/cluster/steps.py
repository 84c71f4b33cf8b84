"""The steps of a start, which all hosts of a deployment take together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from thalweg.deploy.cluster.launch import AnyHost
from thalweg.deploy.cluster.remote import WorkerFull
from thalweg.deploy.errors import StartError
from thalweg.deploy.runtime.tasks import beside
from thalweg.pipeline.errors import ThalwegError

T = TypeVar("T")

GIVE_UP_S = 1.0


async def on_every(
    hosts: Mapping[str, AnyHost], step: Callable[[AnyHost], Awaitable[T]], hurry: asyncio.Event
) -> dict[str, T]:
    """Take a step on every host at once. Raises StartError with what each one said that could not; WorkerFull where
    that is all.

    Once the run is abandoned, `hurry`, it waits GIVE_UP_S longer for one that does not come back, such as Ray's.
    """
    steps = asyncio.gather(*(step(host) for host in hosts.values()), return_exceptions=True)
    try:
        async with beside(hurry.wait()) as hurried:
            waiting: set[asyncio.Future[Any]] = {steps, hurried}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not steps.done():
            await asyncio.wait({steps}, timeout=GIVE_UP_S)
    finally:
        given_up = steps.cancel()
        if given_up:
            steps.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception())
            await asyncio.wait({steps}, timeout=GIVE_UP_S)
    if given_up:
        raise StartError("it was stopped before everything had started")
    wrong, full = [], None
    done: dict[str, T] = {}
    for name, outcome in zip(hosts, steps.result(), strict=True):
        if isinstance(outcome, ThalwegError):
            full = full or (outcome if isinstance(outcome, WorkerFull) else None)
            wrong.append(str(outcome))
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            done[name] = outcome
    if full is not None and len(wrong) == 1:
        raise full
    if wrong:
        raise StartError("\n".join(dict.fromkeys(wrong)))
    return done
