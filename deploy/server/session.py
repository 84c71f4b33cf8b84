"""One conversation: a call, the pipeline that serves it, and the connection that carries it now.

state      event                              next
OPENING    the stages are open                READY      an instance that waits for a visitor
READY      a connection opened its channel    TALKING
READY      the pipeline ended                 ENDED      before a visitor came
TALKING    the connection failed or closed    AWAY       the pipeline runs on; what would be played waits
AWAY       a new connection opened            TALKING    the conversation goes on
AWAY       `resume_s` passed                  ENDED
TALKING    the pipeline ended by itself       ENDED      the person is told
any        end                                ENDED      the pipeline is given a moment, then abandoned

A connection that is still being made when the conversation ends is closed, and its client is told.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import Any

from aiortc import RTCIceServer

from thalweg.deploy.cluster.deployment import Deployment
from thalweg.deploy.cluster.host import Bundle, Host
from thalweg.deploy.ops.observing.outcome import Outcome, Problem
from thalweg.deploy.runtime.tasks import beside
from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.server.admission import Returns
from thalweg.deploy.server.newcomer import Newcomer, SessionOver, answered
from thalweg.deploy.server.observing.answer_times import AnswerTimes
from thalweg.deploy.server.observing.conversation_stats import ConversationStats
from thalweg.deploy.server.observing.tally import Tally
from thalweg.deploy.server.preferring import Preferring
from thalweg.deploy.server.snapshot import Snapshot, recall, session_id, snapshot_of
from thalweg.pipeline.dialogue.call import using
from thalweg.pipeline.dialogue.events import Control, Hello, Say
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.plan import LOCAL
from thalweg.pipeline.file.spec import Spec
from thalweg.stages.io.terminal import about, conversation
from thalweg.transports.webrtc import Call, Offer, Peer

log = logging.getLogger(__name__)

CLOSING_S = 2.0
REPORT_S = 0.25
PROBLEM_S = 10.0
MOVED = "moved"


class SessionState(Enum):
    """See the table above."""

    OPENING = "opening"
    READY = "ready"
    TALKING = "talking"
    AWAY = "away"
    ENDED = "ended"


TRANSITIONS: Mapping[SessionState, frozenset[SessionState]] = {
    SessionState.OPENING: frozenset({SessionState.READY, SessionState.ENDED}),
    SessionState.READY: frozenset({SessionState.TALKING, SessionState.ENDED}),
    SessionState.TALKING: frozenset({SessionState.AWAY, SessionState.ENDED}),
    SessionState.AWAY: frozenset({SessionState.TALKING, SessionState.ENDED}),
    SessionState.ENDED: frozenset(),
}
"""The table above as data: state → possible next states, without itself."""


class Session:
    """A session is made without a visitor; `connect` assigns it to one. `key` resumes it.

    The `live.*` stages run in this process, all others where the plan of `spec` puts them; `bundle` is needed if that
    is elsewhere. `host`: the name of its conversation host, which is part of the id. `goes_on`: a conversation of
    another host is to go on here: see `Order`. `on_heard`: called for each answer
    with the time from the end of speech to its first sound played, seconds. `failure`: why the pipeline did not start,
    or ended early.
    """

    def __init__(self, spec: Spec, bundle: Bundle | None = None, host: str = "", *, goes_on: bool = False) -> None:
        self._host = host
        self.id = session_id(host)
        self.key = secrets.token_urlsafe(18)
        self.call = Call()
        self.state = SessionState.OPENING
        self.address = ""
        self.peer: Peer | None = None
        self.listener: Peer | None = None
        self.began_ns = self.call.clock.now_ns()
        self.changed_ns = self.began_ns
        self.why = ""
        self.on_heard: Callable[[float], None] = lambda first_audio_s: None
        self.reconnects = 0
        self.returns = Returns()
        self._known = False
        self._to_ask: Control | None = None
        self._name = spec.graph.name
        self._video = any(vertex.info.use == "live.camera" for vertex in spec.graph.stages.values())
        self.failure: ThalwegError | None = None
        self._broke = False
        self._outcome: Outcome | None = None
        own = None if bundle is None else replace(bundle, token=secrets.token_hex(16))
        with using(self.call):
            self.deployment = Deployment(spec, own, self._problem, goes_on=goes_on)
        self._preferring = Preferring(spec.preferences, self.deployment.set_parameters, self.call.tell)
        self.call.on_prefer = self._preferring.wish
        self.tally = Tally()
        self._told_ns = -round(PROBLEM_S * 1e9)
        self._stats = ConversationStats(self.deployment, self.worker, self.call.clock)
        self.answers = AnswerTimes(self.call, self._stats, self.worker.turns, self.tally, self._turn_heard)
        self._over = asyncio.Event()
        self._unwanted: list[Peer] = []

    @property
    def worker(self) -> Worker:
        """The stages in this process."""
        host = self.deployment.hosts[LOCAL]
        assert isinstance(host, Host)
        return host.worker

    async def opened(self) -> None:
        """Wait until all stages are open, while `run` runs. Raises the error that prevented it, or SessionOver."""
        async with beside(self.deployment.ready.wait()) as ready, beside(self._over.wait()) as over:
            await asyncio.wait({ready, over}, return_when=asyncio.FIRST_COMPLETED)
        if self.failure is not None:
            raise self.failure
        if self.over:
            raise SessionOver("it ended by itself, before a visitor came")
        self._change(SessionState.READY)

    async def run(self) -> None:
        """Serve until `end`, or until the pipeline ends by itself; everything is closed when this returns."""
        conversation.set(lambda: self.id)  # for this task and all that it starts
        try:
            await self._run_pipeline()
        except asyncio.CancelledError:
            self.end("stopping", "This server was stopped.")
            raise
        finally:
            self._ended_by_itself()
            self._change(SessionState.ENDED)
            for peer in (self.peer, self.listener, *self._unwanted):
                if peer is not None:
                    await peer.close()
            self.peer = self.listener = None

    async def _run_pipeline(self) -> None:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self._run_deployment())
            beside = [
                group.create_task(work) for work in (self._report(), self._stats.follow(), self._preferring.run())
            ]
            over = group.create_task(self._over.wait())
            await asyncio.wait([running, over], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                self._ended_by_itself()
            over.cancel()
            for task in beside:
                task.cancel()
            done, _ = await asyncio.wait([running], timeout=CLOSING_S)
            if not done:
                self.deployment.abandon()

    async def _run_deployment(self) -> None:
        try:
            self._outcome = await self.deployment.run()
        except ThalwegError as error:
            self.failure = error

    async def connect(
        self, sdp: str | Offer, ice: Sequence[RTCIceServer], *, listening: bool = False
    ) -> tuple[Peer, str]:
        """Answer an offer. An existing connection is replaced; a `listening` one is added to it.

        Raises OfferError, and SessionOver if the conversation has ended meanwhile.
        """
        whose = self.id
        with about(lambda: self.id):
            peer, answer = await answered(self.call, sdp, ice, lambda: not self.over and self.id == whose)
        if listening and self.peer is not None:
            before, self.listener = self.listener, peer
            peer.on_state = lambda state: self._listener_changed(peer, state)
        else:
            before, self.peer = self.peer, peer
            peer.on_state = lambda state: self._peer_changed(peer, state)
        if self.state is SessionState.READY:
            self.changed_ns = self.call.clock.now_ns()
        if before is not None:
            await before.close()
        return peer, answer

    def belongs_to(self, traceparent: str) -> None:
        """Turns from now on are part of that trace."""
        if self.worker.spans is not None and traceparent:
            self.worker.spans.belongs_to = traceparent, {"thalweg.session": self.id}

    @property
    def untouched(self) -> bool:
        """Whether no visitor has connected yet, so that its pipeline has heard nothing."""
        return not self._known and self.call.untouched

    def seat(self, newcomer: Newcomer) -> None:
        """Serve a newcomer from now on, with their connection, id and key. Without one now, they may come back."""
        self.id, self.key, self.address, self.returns = newcomer.id, newcomer.key, newcomer.address, newcomer.returns
        self.began_ns = self.changed_ns = self.call.clock.now_ns()
        self.peer, self.listener = newcomer.peer, newcomer.listener
        for peer, changed in ((self.peer, self._peer_changed), (self.listener, self._listener_changed)):
            if peer is not None:
                peer.on_state = partial(changed, peer)
                peer.carry(self.call)
                if peer.is_open:
                    changed(peer, "open")
        self.call.watched = newcomer.call.watched
        self.belongs_to(newcomer.traceparent)
        for control in newcomer.controls:
            self.call.control(control)

    async def renew(self) -> None:
        """Make it available to another visitor: the id and key given to the one who never connected become invalid."""
        self.id, self.key, self.address = session_id(self._host), secrets.token_urlsafe(18), ""
        peer, self.peer = self.peer, None
        listener, self.listener = self.listener, None
        self.changed_ns = self.call.clock.now_ns()
        for one in (peer, listener):
            if one is not None:
                await one.close()

    async def recall(self, snapshot: Snapshot, key: str) -> None:
        """Continue a conversation of another host in this unused session. `key`: what resumes it."""
        self.key = key
        self._known = True
        asked = self._to_ask = snapshot.to_ask
        self.call.written.recall(snapshot.written.known, asked if isinstance(asked, Say) else None)
        await recall(self.deployment, snapshot)

    async def snapshot(self) -> Snapshot:
        """The state from which another host can continue."""
        return await snapshot_of(self.deployment, self.call.playout, self.call.written)

    def end(self, code: str, message: str) -> None:
        """The conversation is over. One that `moved` goes on elsewhere, so its visitor is not told. Idempotent."""
        if not self._over.is_set():
            self.why = code
            if self._known:
                self._log("ended", f"ended ({code}) after {self.age_s:.0f} s", why=code, turns=self.answers.heard)
            self.call.end(code, message, silently=code == MOVED)
            self._over.set()

    @property
    def over(self) -> bool:
        """Whether it has ended, though it may still be closing: it no longer counts as a taken place."""
        return self._over.is_set()

    @property
    def counts(self) -> Counter[str]:
        """What the stages and the call have counted."""
        if self._outcome is None:
            return self._stats.counts + self.call.counts
        return sum((Counter(stage["counts"]) for stage in self._outcome.stages.values()), Counter(self.call.counts))

    def measured(self) -> Tally:
        """Its measurements so far; also readable after its end."""
        self.tally.look(self._stats.workers())
        return self.tally

    @property
    def problem_count(self) -> int:
        """The number of problems."""
        return self._stats.problem_count

    @property
    def unchanged_s(self) -> float:
        """Seconds since its state last changed."""
        return (self.call.clock.now_ns() - self.changed_ns) / 1e9

    @property
    def age_s(self) -> float:
        """Seconds since it was assigned to a visitor."""
        return (self.call.clock.now_ns() - self.began_ns) / 1e9

    def _ended_by_itself(self) -> None:
        """The pipeline is over, for any reason; the visitor is told, unless they know already."""
        if self._broke or self.failure is not None or not self.deployment.ready.is_set():
            self.end("broke", "Something broke on this side, and the conversation has ended. Start a new one.")
        else:
            self.end("finished", "The conversation has come to its end.")

    def _deaf(self) -> bool:
        """Whether a stage that listens to the visitor has ended although the visitor is still connected."""
        if self.worker.started_ns == 0 or self.over:
            return False
        sources = [actor for actor in self.worker.actors.values() if actor.info.is_source]
        return any(actor.task is None and actor.info.use.startswith("live.") for actor in sources)

    def _problem(self, problem: Problem) -> None:
        """Log a problem of a stage, at most one in ten seconds, with the number of those not logged."""
        self._broke = self._broke or not (problem.recovered or problem.ends)
        now_ns = self.call.clock.now_ns()
        if now_ns - self._told_ns >= PROBLEM_S * 1e9:
            self._told_ns = now_ns
            log.warning(
                "session %s: problem %d: stage %s: %s", self.id, self.problem_count, problem.stage, problem.told
            )

    def _peer_changed(self, peer: Peer, state: str) -> None:
        if peer is not self.peer or self.state is SessionState.ENDED:
            return
        if state == "open":
            resumed = self._known
            self._known = True
            self.reconnects += resumed
            self._change(SessionState.TALKING)
            self._log("resumed" if resumed else "began", "is back" if resumed else "a visitor connected")
            known = self.call.written.known
            self.call.tell(Hello(session=self.id, name=self._name, resumed=resumed, video=self._video, known=known))
            asked, self._to_ask = self._to_ask, None
            if asked is not None:
                self.call.on_control(asked)
        elif state in ("failed", "closed") and self.state is SessionState.TALKING:
            self._change(SessionState.AWAY)
            if not self.over:
                self._log("away", "the connection is lost; waiting for them")
        elif state == "expelled":
            self.end("expelled", f"The connection was ended: {peer.why}.")

    def _listener_changed(self, peer: Peer, state: str) -> None:
        if peer is self.listener and state == "expelled":
            log.info("session %s: a listener was ended: %s", self.id, peer.why)
            self._unwanted.append(peer)
            self.listener = None

    def _log(self, event: str, message: str, **fields: Any) -> None:
        """A line for the operator: what happened and how long it took, never what was said or by whom."""
        said = {"event": event, "session": self.id, **fields}
        log.info("session %s: %s", self.id, message, extra={"fields": said})

    def _change(self, state: SessionState) -> None:
        if self.state is not SessionState.ENDED:
            self.state = state
            self.changed_ns = self.call.clock.now_ns()

    async def _report(self) -> None:
        """Milestones of each turn, once it has been heard; what the stages do, for those who watch."""
        while True:
            await asyncio.sleep(REPORT_S)
            while self._unwanted:
                await self._unwanted.pop().close()
            self.call.may_stay()
            if self._deaf():
                self._ended_by_itself()
            self.answers.look()
            if self.call.watched:
                self.call.tell(self._stats.report())

    def _turn_heard(self, epoch: int, played_ms: float, latency: Mapping[str, float]) -> None:
        self.on_heard(played_ms / 1e3)
        measured = {f"{name}_ms": round(value) for name, value in latency.items()} | {"played_ms": round(played_ms)}
        self._log("turn", f"turn {epoch} was answered after {played_ms:.0f} ms", turn=epoch, **measured)
