"""Pipelines that wait for a visitor: one is always open, so that a visitor is answered at once.

The next one is opened when it is taken. Pipelines load one at a time: loading is heavy, and must not disturb running
conversations. A pipeline whose visitor never connected is unused and returns to the pool, so that useless offers cause
no loading. Where a shared worker is full, none is opened but for conversations of other hosts, which have a place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from thalweg.deploy.cluster.host import Bundle
from thalweg.deploy.cluster.remote import WorkerFull
from thalweg.deploy.door.refused import Refused
from thalweg.deploy.server.admission import full
from thalweg.deploy.server.session import Session
from thalweg.pipeline.file.spec import Spec

log = logging.getLogger(__name__)

RETRY_S = 5.0
SPARE_S = 60.0


def no_pipeline() -> Refused:
    """What a newcomer is told where nothing can be started. The reason may name what is inside: it is for the log."""
    return Refused(503, "no-pipeline", "No conversation can be started here now; the log says why. Try again later.")


class Pipelines:
    """`problem`: why the last one could not be made; empty once one could. `full`: a shared worker that had no room for
    it; None once it had. `start`: given each one to run.
    """

    def __init__(self, spec: Spec, bundle: Bundle | None, start: Callable[[Session], None], host: str = "") -> None:
        self.problem = ""
        self.full: WorkerFull | None = None
        self._spec = spec
        self._bundle = bundle
        self._host = host
        self._start = start
        self._waiting: list[Session] = []
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()
        self._goes_on = asyncio.Event()
        self._left = False

    @property
    def ready(self) -> bool:
        """Whether one waits."""
        return bool(self._waiting)

    @property
    def refusal(self) -> Refused | None:
        """What a newcomer is told, where none waits and none can be made."""
        if self._waiting:
            return None
        return full() if self.full else no_pipeline() if self.problem else None

    async def take(self, *, goes_on: bool = False) -> Session:
        """Take an open pipeline for a visitor; waits until there is one. Raises Refused where none can be made.

        `goes_on`: for a conversation of another host.
        """
        while not self._waiting:
            if self.full and goes_on:
                self._goes_on.set()
            elif (refusal := self.refusal) is not None:
                raise refusal
            self._news.clear()
            await self._news.wait()
        session = self._waiting.pop(0)
        if not self._waiting:
            self._wanted.set()
        return session

    async def give_back(self, session: Session) -> None:
        """Return an unused pipeline. One that was used, or is no longer needed, is ended."""
        if session.untouched and not session.over and len(self._waiting) < 2:
            await session.renew()
            if not session.over:
                self._waiting.append(session)
                self._news.set()
                return
        session.end("no-connection", "No connection came about.")

    def gone(self, session: Session) -> None:
        """A pipeline has ended. If it was still waiting for a visitor, that is a problem of its own."""
        if session in self._waiting:
            self._waiting.remove(session)
            if session.why not in ("stopping", "spare"):
                self.problem = "it ended by itself, before a visitor came"
                log.error("the pipeline is of no use: %s", self.problem)
            if not self._waiting:
                self._wanted.set()

    def trim(self) -> None:
        """End those that have waited beside another one for long."""
        for session in self._waiting[1:]:
            if session.unchanged_s > SPARE_S:
                session.end("spare", "It was not needed.")

    def leave(self) -> None:
        """No visitor will come any more: end those that wait, and open no other. Idempotent."""
        self._left = True
        for session in self._waiting:
            session.end("spare", "It was not needed.")

    async def fill(self) -> None:
        """Keep one waiting, until cancelled or `leave`. One that fails to open, or ends before its use, is retried
        later.
        """
        while not self._left:
            if self.problem or self.full:
                self._news.set()
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_S):
                        await self._goes_on.wait()
            goes_on = self._goes_on.is_set()
            self._goes_on.clear()
            try:
                session = Session(self._spec, self._bundle, self._host, goes_on=goes_on)
                self._start(session)
                await session.opened()
            except WorkerFull as error:
                if self.full is None:
                    log.info("no pipeline waits for the next visitor: %s", error)
                self.problem, self.full = "", error
                continue
            except Exception as error:  # the constructors of stages raise what they like
                self.problem = " ".join(str(error).split()) or type(error).__name__
                self.full = None
                log.error("the pipeline cannot be started: %s", self.problem)
                log.debug("it raised", exc_info=error)
                continue
            self.problem, self.full = "", None
            self._wanted.clear()
            self._waiting.append(session)
            self._news.set()
            await self._wanted.wait()
