"""All conversations of one server: who is admitted, who is refused and why, and when each of them ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections import Counter
from collections.abc import Callable

from thalweg.deploy.cluster.host import Bundle
from thalweg.deploy.cluster.remote import WorkerFull
from thalweg.deploy.door.refused import Refused
from thalweg.deploy.door.tokens import same_secret
from thalweg.deploy.server.admission import Admission, full
from thalweg.deploy.server.capacity import Capacity
from thalweg.deploy.server.load import LoadMeter
from thalweg.deploy.server.newcomer import Newcomer, NewcomerState, most_newcomers
from thalweg.deploy.server.observing.tally import Tally
from thalweg.deploy.server.pipelines import Pipelines
from thalweg.deploy.server.session import Session, SessionState
from thalweg.deploy.server.settings import ServerSettings
from thalweg.pipeline.dialogue.events import Bye, Trouble
from thalweg.pipeline.file.spec import Spec

log = logging.getLogger(__name__)

TICK_S = 0.5
TELL_S = 10.0
PRESSED_S = 5.0
AT_ONCE = 8
_OVER = (SessionState.ENDED, NewcomerState.GONE)


def draining() -> Refused:
    """The refusal of new visitors while the server is stopping."""
    return Refused(503, "draining", "This server is about to stop. Try again in a minute.")


def gone() -> Refused:
    """The refusal of a visitor whose conversation does not exist, or whose key is wrong."""
    return Refused(404, "gone", "That conversation has ended. Start a new one.")


class Conversations:
    """Runs until cancelled. `counts`: events since the start, by name. Of ended conversations, `counted`: counters of
    their stages, `over`: everything else. `newcomers`: who is not connected yet; `arriving`: who is and has
    no pipeline yet, `waiting` by address. `host`: the name of this conversation host, if it is one.
    """

    def __init__(self, spec: Spec, settings: ServerSettings, bundle: Bundle | None = None, host: str = "") -> None:
        self.spec = spec
        self.settings = settings
        self.sessions: dict[str, Session] = {}
        self.newcomers: dict[str, Newcomer] = {}
        self.arriving: dict[str, Newcomer] = {}
        self.load = LoadMeter(settings.late_s, settings.used)
        self.capacity = Capacity()
        self.admission = Admission(settings.per_address, settings.connecting or most_newcomers())
        self.pipelines = Pipelines(spec, bundle, self._start, host)
        self._host = host
        self.counts: Counter[str] = Counter()
        self.counted: Counter[str] = Counter()
        self.over = Tally()
        self.draining = False
        self.on_end: Callable[[Session], None] = lambda session: None
        self._group: asyncio.TaskGroup | None = None
        self._leaving: asyncio.TaskGroup | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self.waiting: Counter[str] = Counter()
        self._taken = asyncio.Lock()
        self._changed = asyncio.Event()
        self._refused: Counter[str] = Counter()
        self._refused_told_s: dict[str, float] = {}

    @property
    def ready(self) -> bool:
        """Whether the next visitor would be answered at once."""
        return self.pipelines.ready and not self.draining

    @property
    def full(self) -> WorkerFull | None:
        """A shared worker that has no room for another pipeline, where none waits."""
        return None if self.pipelines.ready else self.pipelines.full

    @property
    def problem(self) -> str:
        """Why no pipeline can be opened, for the operator; empty if one can."""
        return self.pipelines.problem

    async def run(self) -> None:
        """Keep one pipeline ready and manage the conversations. Cancel it to close everything."""
        async with asyncio.TaskGroup() as self._leaving:
            try:
                async with asyncio.TaskGroup() as group:
                    self._group = group
                    group.create_task(self.pipelines.fill())
                    group.create_task(self.load.run())
                    while True:
                        await asyncio.sleep(TICK_S)
                        self._look_after()
            finally:
                self._group = None
                for newcomer in [*self.newcomers.values()]:
                    self.dismiss(newcomer, "stopping")
                if self._closing:  # else the group would cancel it, and leave sockets open
                    await asyncio.wait(self._closing)

    def welcome(self, address: str) -> Newcomer:
        """Let a newcomer connect; another one may have to give way. Raises Refused."""
        try:
            going = self._admit(address)
        except Refused as refused:
            self._tell_refused(refused.code)
            raise
        if going is not None:
            self.counts["gave_way"] += 1
            self.dismiss(self.newcomers[going])
        newcomer = Newcomer(address, self._host)
        newcomer.on_change = lambda state: self._newcomer_changed(newcomer, state)
        newcomer.on_end = lambda code: self.dismiss(newcomer, code)
        self.newcomers[newcomer.id] = newcomer
        return newcomer

    def dismiss(self, newcomer: Newcomer, why: str = "no-connection") -> None:
        """A newcomer did not connect, or does not want to. Idempotent."""
        if not newcomer.become(NewcomerState.GONE):
            return
        pressed = self.admission.pressed(len(self.newcomers))
        self.newcomers.pop(newcomer.id, None)
        self.counts[f"ended_{why}"] += 1
        if why == "expelled":
            self.admission.expelled(newcomer.address, time.monotonic())
        elif why == "no-connection" or pressed:
            self.admission.came_to_nothing(newcomer.address, time.monotonic())
        self._changed.set()
        assert self._leaving is not None
        closing = self._leaving.create_task(newcomer.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _newcomer_changed(self, newcomer: Newcomer, state: str) -> None:
        if state == "expelled":
            self.dismiss(newcomer, "expelled")
        elif newcomer.become(NewcomerState.ARRIVING):
            self.arriving[newcomer.id] = self.newcomers.pop(newcomer.id)
            assert self._group is not None
            self._group.create_task(self._arrive(newcomer))

    async def _arrive(self, newcomer: Newcomer) -> None:
        """They are connected: a pipeline is theirs now, or they are told why there is none."""
        try:
            if self._full(self._taken_places()):
                raise full()
            session = await self._take(newcomer.address)
        except Refused as refused:
            self._tell_refused(refused.code)
            newcomer.call.tell(Bye(code=refused.code, message=str(refused)))
            self.dismiss(newcomer, refused.code)
            return
        except asyncio.CancelledError:
            self.dismiss(newcomer, "stopping")
            raise
        finally:
            del self.arriving[newcomer.id]
        if newcomer.become(NewcomerState.GONE):
            try:
                session.seat(newcomer)
            except Exception:  # what it was told while it waited is handled by stages; it must not end all the others
                log.exception("session %s could not begin", session.id)
                session.end("broke", "Something broke on this side, and the conversation has ended. Start a new one.")
            self._begin(session)
        else:
            await self.pipelines.give_back(session)

    async def enter(self, address: str) -> Session:
        """A pipeline for a visitor whose conversation was on a host that is lost or drained, within `connect_s`.

        Raises Refused: they have a place already, in a service that is one; only a full service refuses them.
        """
        try:
            if self.draining:
                raise draining()
            if self._full(self._taken_places(), moved=True):
                raise full()
            session = await self._take(address, goes_on=True)
        except Refused as refused:
            self._tell_refused(refused.code)
            raise
        if self.draining:
            await self.pipelines.give_back(session)
            raise draining()
        session.address = address
        session.began_ns = session.changed_ns = session.call.clock.now_ns()
        self._begin(session)
        return session

    def _begin(self, session: Session) -> None:
        self.sessions[session.id] = session
        self.counts["sessions"] += 1
        self._changed.set()

    async def _take(self, address: str, *, goes_on: bool = False) -> Session:
        """A pipeline, within `connect_s`; until then the address counts one more. Raises Refused."""
        self.waiting[address] += 1
        try:
            async with asyncio.timeout(self.settings.connect_s), self._taken:
                return await self.pipelines.take(goes_on=goes_on)
        except TimeoutError:
            raise Refused(503, "busy", "This server is busy. Try again in a moment.") from None
        finally:
            self.waiting[address] -= 1
            if not self.waiting[address]:
                del self.waiting[address]

    def _tell_refused(self, code: str) -> None:
        """Log each reason once in ten seconds, with a count, so that requests cannot fill the disk."""
        self.counts[f"refused_{code}"] += 1
        self._refused[code] += 1
        now_s = time.monotonic()
        if now_s - self._refused_told_s.get(code, -TELL_S) < TELL_S:
            return
        self._refused_told_s[code] = now_s
        count = self._refused.pop(code)
        fields = {"event": "refused", "why": code, "count": count}
        log.info("refused: %s (%d since this was said last)", code, count, extra={"fields": fields})

    def _admit(self, address: str) -> str | None:
        """Which newcomer gives way to one from this address, None where none has to. Raises Refused."""
        if self.draining:
            raise draining()
        if self.pipelines.refusal is not None:
            raise self.pipelines.refusal
        held = [session for session in self.sessions.values() if not session.over]
        return self.admission.admit(
            address,
            self.newcomers,
            time.monotonic(),
            mine=sum(session.address == address for session in held) + self.waiting[address],
            is_full=self._full(self._taken_places()),
        )

    def _taken_places(self) -> int:
        """How many talk, or are connected and wait for a pipeline."""
        return sum(not session.over for session in self.sessions.values()) + self.waiting.total()

    @property
    def limit(self) -> int | None:
        """Most conversations at once; None if unknown."""
        return self.settings.sessions or self.capacity.limit(time.monotonic())

    def _full(self, talking: int, moved: bool = False) -> bool:
        limit = self.limit
        if limit is not None and talking >= limit:
            return True
        return talking > 0 and not moved and self.busy

    @property
    def busy(self) -> bool:
        """Whether the machine is too busy for more than one conversation; never where their number is set."""
        return not self.settings.sessions and self.load.busy

    @property
    def talking(self) -> int:
        """The number of connected conversations."""
        return sum(session.state is SessionState.TALKING and not session.over for session in self.sessions.values())

    def _heard(self, first_audio_s: float) -> None:
        self.capacity.note(max(1, self.talking), first_audio_s, time.monotonic())

    def find(self, session_id: str, key: str) -> Session | Newcomer:
        """The conversation to resume, or who is still connecting to it. Raises Refused."""
        found = self.sessions.get(session_id) or self.newcomers.get(session_id) or self.arriving.get(session_id)
        if found is None or not same_secret(key, found.key) or found.state in _OVER:
            raise gone()
        return found

    def release(self, session: Session) -> None:
        """A visitor who has a pipeline did not connect; it may serve another."""
        if self.sessions.pop(session.id, None) is not None:
            self.counts["ended_no-connection"] += 1
            self.admission.came_to_nothing(session.address, time.monotonic())
            self._changed.set()
            assert self._group is not None
            self._group.create_task(self.pipelines.give_back(session))

    async def drain(self) -> None:
        """Admit no more visitors, and wait a limited time for running conversations to end."""
        self.draining = True
        for session in self.sessions.values():
            session.call.tell(Trouble(code="closing", message="This server is about to stop. Come back in a minute."))
        try:
            async with asyncio.timeout(self.settings.drain_s):
                while any(session.state is SessionState.TALKING for session in self.sessions.values()):
                    await self._next_change()
        except TimeoutError:
            log.info("%d conversations were cut short by the stop", len(self.sessions))

    async def empty(self) -> None:
        """Return once no conversation is left."""
        while self.sessions:
            await self._next_change()

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _start(self, session: Session) -> None:
        assert self._group is not None
        session.on_heard = self._heard
        self._group.create_task(self._run(session))

    async def _run(self, session: Session) -> None:
        try:
            await session.run()
        except* Exception as errors:
            self.counts["crashes"] += 1
            log.error("session %s broke: %r", session.id, errors.exceptions, exc_info=errors)
        finally:
            self.pipelines.gone(session)
            self.counted += session.counts
            self.over.close(session.measured())
            if self.sessions.pop(session.id, None) is not None:
                self.counts[f"ended_{session.why or 'crash'}"] += 1
            if session.why == "expelled":
                self.admission.expelled(session.address, time.monotonic())
            self._changed.set()
            self.on_end(session)
            if not any(other.state is SessionState.TALKING for other in self.sessions.values()):
                gc.collect()  # connections leave reference cycles; no conversation is delayed by the 100 ms now

    def _let_go(self) -> None:
        """Newcomers who have had their time give up their places, a few at once: closing costs a moment each."""
        patience_s = self.settings.connect_s
        if self.admission.pressed(len(self.newcomers)):
            patience_s = min(patience_s, PRESSED_S)
        late = [
            one
            for one in self.newcomers.values()
            if one.since_s > (self.settings.connect_s if one.reached else patience_s)
        ]
        for newcomer in late[:AT_ONCE]:
            self.dismiss(newcomer)

    def _look_after(self) -> None:
        self._changed.set()
        self.pipelines.trim()
        if self.draining and not self.newcomers and not self.arriving:
            self.pipelines.leave()
        self._let_go()
        for session in list(self.sessions.values()):
            state, age_s = session.state, session.unchanged_s
            if state is SessionState.TALKING:
                self.admission.came_about(session.address)
            if session.age_s > self.settings.session_s:
                session.end("too-long", "A conversation may last no longer here. Start a new one.")
            elif state is SessionState.READY and age_s > self.settings.connect_s:
                self.release(session)
            elif state is SessionState.AWAY and age_s > self.settings.resume_s:
                session.end("lost", "The connection was lost and not resumed in time.")
