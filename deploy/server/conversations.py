"""All conversations of one server: who is let in, who is refused and why, and when each of them ends.

One pipeline is always open and waiting, so that a person is answered at once; the next one is opened when it is
taken. Loading takes turns: it is heavy, and must not disturb those who talk.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections import Counter
from collections.abc import Callable

from thalweg.deploy.door.front_door import same_secret
from thalweg.deploy.door.refused import Refused
from thalweg.deploy.server.capacity import Capacity
from thalweg.deploy.server.load import LoadMeter
from thalweg.deploy.server.session import Session, SessionState
from thalweg.deploy.server.settings import ServerSettings
from thalweg.pipeline.file.spec import Spec

log = logging.getLogger(__name__)

TICK_S = 0.5
RETRY_S = 5.0


def no_pipeline() -> Refused:
    """What a newcomer is told where nothing can be started. The reason may name what is inside: it is for the log."""
    return Refused(503, "no-pipeline", "No conversation can be started here now; the log says why. Try again later.")


class Hall:
    """Runs until `closed` is set. `counts`: what happened since the start, by name; `counted`: by the stages of
    conversations that are over.
    """

    def __init__(self, spec: Spec, settings: ServerSettings) -> None:
        self.spec = spec
        self.settings = settings
        self.sessions: dict[str, Session] = {}
        self.load = LoadMeter(settings.late_s, settings.used)
        self.capacity = Capacity()
        self.counts: Counter[str] = Counter()
        self.counted: Counter[str] = Counter()
        self.draining = False
        self.problem = ""
        self.on_end: Callable[[Session], None] = lambda session: None
        self._ready: Session | None = None
        self._group: asyncio.TaskGroup | None = None
        self._refill = asyncio.Event()
        self._taken = asyncio.Lock()
        self._opened = asyncio.Event()
        self._changed = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def ready(self) -> bool:
        """Whether the next person would be answered at once."""
        return self._ready is not None and not self.draining

    async def run(self) -> None:
        """Keep one pipeline ready and look after the conversations. Cancel it to close everything."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._fill())
                group.create_task(self.load.run())
                while True:
                    await asyncio.sleep(TICK_S)
                    self._look_after()
        finally:
            self._group = None

    async def enter(self, address: str) -> Session:
        """A conversation for somebody new. Raises Refused."""
        self._admit(address)
        async with self._taken:
            self._admit(address)  # whoever came a moment before may have taken the last place
            session = await self._take()
            session.address = address
            session.began_ns = session.changed_ns = session.call.clock.now_ns()
            self.sessions[session.id] = session
        self.counts["sessions"] += 1
        return session

    def _admit(self, address: str) -> None:
        """Whether there is room for somebody at this address. Raises Refused."""
        if self.draining:
            raise Refused(503, "draining", "This server is about to stop. Try again in a minute.")
        talking = [session for session in self.sessions.values() if not session.over]
        mine = sum(session.address == address for session in talking)
        if mine >= self.settings.per_address:
            raise Refused(
                429, "too-many", f"There are already {mine} conversations from your address. End one of them first."
            )
        if self._full(len(talking)):
            raise Refused(503, "busy", "Everybody here is talking already. Try again in a moment.")

    @property
    def limit(self) -> int | None:
        """How many may talk at once; None where that is not known."""
        return self.settings.sessions or self.capacity.limit(time.monotonic())

    def _full(self, talking: int) -> bool:
        limit = self.limit
        if limit is not None and talking >= limit:
            return True
        return talking > 0 and not self.settings.sessions and self.load.busy

    @property
    def talking(self) -> int:
        """How many are connected and talk, or may at any moment."""
        return sum(session.state is SessionState.TALKING and not session.over for session in self.sessions.values())

    def _heard(self, first_audio_s: float) -> None:
        self.capacity.note(max(1, self.talking), first_audio_s, time.monotonic())

    def find(self, session_id: str, key: str) -> Session:
        """The conversation that is to be resumed. Raises Refused."""
        session = self.sessions.get(session_id)
        if session is None or not same_secret(key, session.key) or session.state is SessionState.ENDED:
            raise Refused(404, "gone", "That conversation has ended. Start a new one.")
        return session

    def release(self, session: Session) -> None:
        """Somebody who was let in could not be connected after all."""
        session.end("failed", "The connection could not be made.")

    async def drain(self) -> None:
        """Let nobody in any more, and wait for those who talk, for a while."""
        self.draining = True
        try:
            async with asyncio.timeout(self.settings.drain_s):
                while any(session.state is SessionState.TALKING for session in self.sessions.values()):
                    await self._next_change()
        except TimeoutError:
            log.info("%d conversations were cut short by the stop", len(self.sessions))

    async def empty(self) -> None:
        """Return once nobody is left."""
        while self.sessions:
            await self._next_change()

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _take(self) -> Session:
        if self._ready is None:
            try:
                async with asyncio.timeout(self.settings.connect_s):
                    while self._ready is None:
                        if self.problem:
                            raise no_pipeline()
                        self._opened.clear()
                        await self._opened.wait()
            except TimeoutError:
                raise Refused(503, "busy", "This server is busy. Try again in a moment.") from None
        session, self._ready = self._ready, None
        self._refill.set()
        return session

    async def _fill(self) -> None:
        """Keep one pipeline ready. One that cannot be made, or ends before anybody came, is tried again later."""
        while True:
            try:
                session = Session(self.spec)
                session.on_heard = self._heard
                await session.open()
            except Exception as error:  # the constructors of stages raise what they like
                self.problem = " ".join(str(error).split()) or type(error).__name__
                log.error("the pipeline cannot be started: %s", self.problem)
                log.debug("it raised", exc_info=error)
                self._opened.set()
                await asyncio.sleep(RETRY_S)
                continue
            self.problem = ""
            assert self._group is not None
            self._tasks[session.id] = self._group.create_task(self._run(session))
            self._ready = session
            self._opened.set()
            self._refill.clear()
            await self._refill.wait()
            if self.problem:
                self._opened.set()
                await asyncio.sleep(RETRY_S)

    async def _run(self, session: Session) -> None:
        try:
            await session.run()
        except* Exception as errors:
            self.counts["crashes"] += 1
            log.error("session %s broke: %r", session.id, errors.exceptions, exc_info=errors)
        finally:
            self.sessions.pop(session.id, None)
            self.counted += session.counts
            self._tasks.pop(session.id, None)
            if session is self._ready and session.why != "stopping":
                self._ready = None
                self.problem = "it ended by itself, before anybody came"
                log.error("the pipeline is of no use: %s", self.problem)
                self._refill.set()
            self.counts[f"ended_{session.why or 'crash'}"] += 1
            self._changed.set()
            self.on_end(session)
            if not any(other.state is SessionState.TALKING for other in self.sessions.values()):
                gc.collect()  # what a connection leaves goes round in circles; nobody is there to notice the 100 ms

    def _look_after(self) -> None:
        self._changed.set()
        for session in list(self.sessions.values()):
            state, age_s = session.state, session.unchanged_s
            if session.age_s > self.settings.session_s:
                session.end("too-long", "A conversation may last no longer here. Start a new one.")
            elif state is SessionState.READY and age_s > self.settings.connect_s:
                session.end("no-connection", "No connection came about.")
            elif state is SessionState.AWAY and age_s > self.settings.resume_s:
                session.end("lost", "The connection was lost, and nobody came back.")
