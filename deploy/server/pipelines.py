"""Pipelines that wait for a visitor: one is always open, so that a visitor is answered at once.

The next one is opened when it is taken. Pipelines load one at a time: loading is heavy, and must not disturb running
conversations. A pipeline whose visitor never connected is unused and returns to the pool, so that useless offers cause
no loading.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from thalweg.deploy.cluster.host import Bundle
from thalweg.deploy.door.refused import Refused
from thalweg.deploy.server.session import Session
from thalweg.pipeline.file.spec import Spec

log = logging.getLogger(__name__)

RETRY_S = 5.0
SPARE_S = 60.0


def no_pipeline() -> Refused:
    """What a newcomer is told where nothing can be started. The reason may name what is inside: it is for the log."""
    return Refused(503, "no-pipeline", "No conversation can be started here now; the log says why. Try again later.")


class Pipelines:
    """`problem`: why the last one could not be made; empty once one could. `start`: given each one to run."""

    def __init__(self, spec: Spec, bundle: Bundle | None, start: Callable[[Session], None], host: str = "") -> None:
        self.problem = ""
        self._spec = spec
        self._bundle = bundle
        self._host = host
        self._start = start
        self._waiting: list[Session] = []
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether one waits."""
        return bool(self._waiting)

    async def take(self) -> Session:
        """Take an open pipeline for a visitor; waits until there is one. Raises Refused where none can be made."""
        while not self._waiting:
            if self.problem:
                raise no_pipeline()
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

    async def fill(self) -> None:
        """Keep one waiting, until cancelled. One that fails to open, or ends before its use, is retried later."""
        while True:
            if self.problem:
                self._news.set()
                await asyncio.sleep(RETRY_S)
            try:
                session = Session(self._spec, self._bundle, self._host)
                self._start(session)
                await session.opened()
            except Exception as error:  # the constructors of stages raise what they like
                self.problem = " ".join(str(error).split()) or type(error).__name__
                log.error("the pipeline cannot be started: %s", self.problem)
                log.debug("it raised", exc_info=error)
                continue
            self.problem = ""
            self._wanted.clear()
            self._waiting.append(session)
            self._news.set()
            await self._wanted.wait()
