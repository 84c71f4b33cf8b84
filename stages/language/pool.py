"""Several backends behind one: a pool that answers in time, within its zone of privacy, and finishes its sentence.

A pool is a `Backend` itself, so `language.chat` does not know how many there are. What happens is decided in
`pipeline/handoff/`; here backends are asked, their deltas go in as events, and what comes out is said.

Each backend's stream runs in a task of its own below the reply that wants it; it ends with the reply, or as soon as the
decision is that nothing of it is wanted. Failures of settings take a backend out until they change; others open its
breaker for a while. It comes back between turns only: one whose pause is over stands behind the others until it has
answered a question of one token about the conversation, put to it between two turns.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from thalweg.models.language.backend import (
    Abilities,
    Backend,
    BackendError,
    Delta,
    ErrorKind,
    Finish,
    Message,
    Progress,
    Reason,
    Request,
    Text,
    Thinking,
)
from thalweg.pipeline.duration import Duration
from thalweg.pipeline.handoff.answering import Action, Answering, Ask, Cancel, End, GiveUp, ReplyLimits, Say
from thalweg.pipeline.handoff.privacy import Privacy, Zone
from thalweg.pipeline.handoff.router import SURE, Candidate, Route, RoutePolicy, choose
from thalweg.stages.language.member import AtWork, Member, Streams, Told, at_work, listen, tokens_of

__all__ = ["Member", "Pool", "PoolPolicy"]

TICK_S = 0.25
"""How often an answer under way that nothing happens to is looked at, and said to be under way."""
SYNTHESIS_MS = 250.0
"""From a first clause of text to its first sound."""
CHARACTERS_PER_S = 15.0
"""Of English as it is spoken: how long there is still to play is reckoned from what was said."""
_SETTINGS = (ErrorKind.SETTINGS, ErrorKind.REFUSED)
_CANNOT_BE_HELPED = (ErrorKind.TOO_LONG, ErrorKind.FILTERED)


class PoolPolicy(BaseModel):
    """How a pool chooses. `privacy`: the widest zone; `private`: words that keep a conversation at the edge."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    first_clause_within: Annotated[Duration, Field(description="when a first clause must be there")] = 900_000_000
    privacy: Annotated[str, Field(pattern="^(edge|fog|cloud)$")] = "cloud"
    private: Annotated[list[str], Field(description="names that must not leave the edge")] = []
    budget_per_hour: Annotated[
        float | None, Field(ge=0, allow_inf_nan=False, description="of costs; left out: no limit")
    ] = None
    prefer: Annotated[str, Field(pattern="^(quality|cost|latency)$")] = "quality"
    connect_within: Annotated[Duration, Field(description="longest wait for a connection")] = 2_000_000_000
    first_text_within: Annotated[Duration, Field(description="longest wait for a backend's first word")] = 4_000_000_000
    stall: Annotated[Duration, Field(description="silence in mid-answer that counts as one")] = 1_500_000_000
    hedge_after: Annotated[Duration | None, Field(description="ask a second beside a first that is slow")] = None
    probe_every: Annotated[
        Duration | None, Field(description="how often one that is out or slow is tried between turns; null: never")
    ] = 30_000_000_000


@dataclass(slots=True)
class _Asked:
    """A reply under way: the question, who decides, who is asked, and what went wrong so far."""

    request: Request
    answering: Answering
    streams: Streams = field(default_factory=Streams)
    errors: list[ErrorKind] = field(default_factory=list)
    reason: Reason = Reason.STOP


class Pool:
    """See above. `counts`: shown in reports and metrics. `routes`: the newest decisions, for whoever shows them."""

    def __init__(
        self,
        members: Mapping[str, Member],
        policy: PoolPolicy,
        defaults: Mapping[str, Any] | None = None,
        made: Mapping[str, Backend] | None = None,
    ) -> None:
        """`made`: backends that exist already, in place of those that `members` describe. Raises BackendError."""
        if not members:
            raise BackendError(ErrorKind.SETTINGS, "`backends` is empty: name one, such as pocket: {backend: llamacpp}")
        limit = Zone[policy.privacy.upper()]
        given = {"connect_s": policy.connect_within / 1e9, **(defaults or {})}
        self._members = {
            name: AtWork(name, member, made[name]) if made and name in made else at_work(name, member, given)
            for name, member in members.items()
        }
        if all(member.where > limit for member in self._members.values()):
            raise BackendError(
                ErrorKind.SETTINGS,
                f"privacy is {policy.privacy}, and no backend is there: say where one is with `where`",
            )
        along = any(m.backend.abilities.reads_along for m in self._members.values() if m.where is Zone.EDGE)
        self.abilities = Abilities(reads_along=along)  # where a backend of this machine does
        self.policy = policy
        self.privacy = Privacy(limit, policy.private)
        self.counts: Counter[str] = Counter()
        self.routes: deque[Route] = deque(maxlen=32)
        self.answering: Answering | None = None
        self._spent: deque[tuple[float, float]] = deque()
        self._playing_s: float | None = None
        self._probe: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """For the operator."""
        return f"the pool of {', '.join(self._members)}:"

    async def open(self) -> None:
        """Open all; one that cannot be opened is out, and it is an error only where none is left."""
        outcomes = await asyncio.gather(*(m.backend.open() for m in self._members.values()), return_exceptions=True)
        failed = []
        for member, outcome in zip(self._members.values(), outcomes, strict=True):
            if isinstance(outcome, BackendError):
                member.breaker.misconfigured(str(outcome))
                failed.append(f"{member.name}: {outcome}")
                self.counts["backends_out"] += 1
            elif isinstance(outcome, BaseException):
                await self.close()
                raise outcome
        if len(failed) == len(self._members):
            await self.close()
            raise BackendError(ErrorKind.SETTINGS, "; ".join(failed))

    async def close(self) -> None:
        """Close all. Idempotent."""
        await self._leave_probe()
        await asyncio.gather(*(m.backend.close() for m in self._members.values()), return_exceptions=True)

    async def prefill(self, request: Request) -> None:
        """Let the backends that may, and are likely, read along; privacy binds reading, too."""
        self._hear(request.messages)
        for member in self._members.values():
            if member.backend.abilities.reads_along and self.privacy.allows(member.where):
                await member.backend.prefill(request)

    def heard(self, playing: bool, now_s: float) -> None:
        """Play-out has begun with an answer at `now_s`, or it is over."""
        self._playing_s = now_s if playing else None

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Answer, by as many backends as it takes."""
        await self._leave_probe()
        self._hear(request.messages)
        loop = asyncio.get_running_loop()
        route = self._route(request, loop.time())
        self.routes.append(route)
        if not route.order:
            raise BackendError(ErrorKind.NOBODY, f"nobody may be asked: {route.reason}")
        answering = Answering(route.order, self._limits(), lambda name: self._needs_ms(name, request))
        self.answering, asked = answering, _Asked(request, answering)
        try:
            actions = deque(answering.begin(_ms(loop)))
            while True:
                while actions:
                    action = actions.popleft()
                    if isinstance(action, End):
                        self._probe_others(request, answering)
                        yield Finish(asked.reason)
                        return
                    if isinstance(action, GiveUp):
                        raise BackendError(_kind(asked), action.reason)
                    if isinstance(action, Say):
                        yield Text(action.text)
                    else:
                        actions.extendleft(reversed(self._carry_out(action, asked, _ms(loop))))
                told = await _next(asked.streams, answering.due_ms(_ms(loop)) - _ms(loop))
                if told is None:
                    yield Progress("empty")
                    actions += answering.buffered(self._left_ms(answering, loop.time()), _ms(loop))
                elif asked.streams.is_current(told):
                    actions += self._take(asked, told, _ms(loop))
        finally:
            self._count(answering)
            self.answering = None
            for name in answering.under_way:
                self._members[name].breaker.let_go()
            await asked.streams.close()

    def _limits(self) -> ReplyLimits:
        hedge_ns = self.policy.hedge_after
        return ReplyLimits(
            first_ms=self.policy.first_text_within / 1e6,
            stall_ms=self.policy.stall / 1e6,
            hedge_ms=None if hedge_ns is None else hedge_ns / 1e6,
        )

    def _carry_out(self, action: Ask | Cancel, asked: _Asked, now_ms: float) -> list[Action]:
        """Do it; what comes of it at once."""
        member = self._members[action.backend]
        if isinstance(action, Cancel):
            asked.streams.cancel(member.name)
            if action.reason:
                self.counts[f"failed_{member.name}"] += 1
                asked.errors.append(ErrorKind.SILENT)
                member.breaker.failed(now_ms, action.reason)
            else:
                member.breaker.let_go()
                member.hung_up_on(asked.request, now_ms / 1e3)
            return []
        left = self._left(now_ms / 1e3)
        if left is not None and member.said.cost > left:
            return asked.answering.failed(member.name, f"it costs {member.said.cost:g}, {left:g} are left", now_ms)
        self.counts[f"asked_{member.name}"] += 1
        if member.said.cost:
            self._spent.append((now_ms / 1e3, member.said.cost))
        member.breaker.tries()
        asked.streams.ask(member, asked.request, action.said)
        return []

    def _take(self, asked: _Asked, told: Told, now_ms: float) -> list[Action]:
        answering, member, what = asked.answering, self._members[told.name], told.what
        if isinstance(what, Text):
            return answering.text(member.name, what.text, now_ms)
        if isinstance(what, Finish):
            asked.reason = what.reason
            member.breaker.answered()
            return answering.finished(member.name, now_ms)
        if isinstance(what, BackendError):
            asked.errors.append(what.kind)
            if what.kind in _SETTINGS:
                member.breaker.misconfigured(str(what))
            elif what.kind in _CANNOT_BE_HELPED:
                member.breaker.let_go()
            else:
                after_ms = None if what.retry_after_s is None else what.retry_after_s * 1e3
                member.breaker.failed(now_ms, str(what), after_ms)
            self.counts[f"failed_{member.name}"] += 1
            return answering.failed(member.name, str(what), now_ms)
        return answering.alive(member.name, now_ms, thinking=isinstance(what, Thinking))

    def _hear(self, messages: Sequence[Message]) -> None:
        """All that would go along, also what was said before this pool was made from a snapshot."""
        for message in messages:
            if message.role != "system":
                self.privacy.hear(message.text)

    def _left(self, now_s: float) -> float | None:
        """What may still be spent; None: anything."""
        while self._spent and self._spent[0][0] < now_s - 3600:
            self._spent.popleft()
        budget = self.policy.budget_per_hour
        return None if budget is None else budget - sum(cost for _, cost in self._spent)

    def _route(self, request: Request, now_s: float) -> Route:
        """Who is asked, in which order."""
        within_ms, tokens = self.policy.first_clause_within / 1e6, tokens_of(request.messages)
        closed = {
            name: "" if member.breaker.allows(now_s * 1e3) else member.breaker.reason or "it is being tried"
            for name, member in self._members.items()
        }
        candidates = [
            Candidate(
                name=member.name,
                where=member.where,
                quality=member.quality,
                cost=member.said.cost,
                in_time=self._in_time(member, within_ms, tokens),
                first_ms=member.latency.expected_first_ms(tokens),
                closed=closed[member.name],
            )
            for member in self._members.values()
        ]
        policy = RoutePolicy(prefer=self.policy.prefer, budget_left=self._left(now_s))
        return choose(candidates, policy, self.privacy.zone)

    def _in_time(self, member: AtWork, within_ms: float, tokens: int) -> float:
        """One that may be back is not relied on, where it is going to be tried between turns."""
        if member.breaker.half_open and self.policy.probe_every is not None:
            return 0.0
        return member.latency.in_time(within_ms, tokens) if member.latency.answers >= 3 else 1.0

    def _needs_ms(self, name: str, request: Request) -> float:
        return self._members[name].latency.first_ms_at(0.95, tokens_of(request.messages)) + SYNTHESIS_MS

    def _left_ms(self, answering: Answering, now_s: float) -> float:
        """How much sound there is still to play."""
        if self._playing_s is None:
            return 0.0
        return max(0.0, len(answering.said) / CHARACTERS_PER_S * 1e3 - (now_s - self._playing_s) * 1e3)

    def _count(self, answering: Answering) -> None:
        self.counts["switches"] += answering.switches
        self.counts["hedges"] += answering.hedges
        if answering.speaker:
            self.counts[f"answered_{answering.speaker}"] += 1

    def _probe_others(self, request: Request, answering: Answering) -> None:
        """Between two turns, try those that may be back or have become fast again: they read what they will need."""
        every_ns, loop = self.policy.probe_every, asyncio.get_running_loop()
        if every_ns is None:
            return
        so_far = [*request.messages, Message("assistant", answering.said)]
        question = replace(request, messages=so_far, max_tokens=1, prefix="")
        within_ms, now_s = self.policy.first_clause_within / 1e6, loop.time()
        doubtful = []
        for member in self._members.values():
            if not self.privacy.allows(member.where) or not member.breaker.allows(now_s * 1e3):
                continue
            late = (
                self._in_time(member, within_ms, tokens_of(so_far)) < SURE and now_s - member.asked_s > every_ns / 1e9
            )
            left = self._left(now_s)
            if (member.breaker.half_open or late) and (left is None or member.said.cost <= left):
                doubtful.append(member)
        if doubtful:
            self._probe = loop.create_task(self._try(doubtful, question), name="probing backends")

    async def _try(self, members: Sequence[AtWork], question: Request) -> None:
        """Ask each for one token, one after the other. What it costs is counted as an answer's."""
        loop = asyncio.get_running_loop()
        for member in members:
            member.breaker.tries()
            self.counts[f"probed_{member.name}"] += 1
            if member.said.cost:
                self._spent.append((loop.time(), member.said.cost))
            try:
                async with (
                    asyncio.timeout(self.policy.first_text_within / 1e9),
                    aclosing(listen(member, question)) as deltas,
                ):
                    async for _ in deltas:
                        pass
                member.breaker.answered()
            except (BackendError, TimeoutError) as error:
                member.breaker.failed(_ms(loop), str(error) or "it did not answer when it was tried")
            finally:
                member.breaker.let_go()

    async def _leave_probe(self) -> None:
        """Somebody speaks, or it is over: what is under way between turns ends."""
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.cancel()
            await asyncio.wait([probe], timeout=TICK_S)


async def _next(streams: Streams, within_ms: float) -> Told | None:
    """What is said next; None where nothing is within that time, or `TICK_S`."""
    try:
        async with asyncio.timeout(min(TICK_S, max(1e-3, within_ms / 1e3))):
            return await streams.told.get()
    except TimeoutError:
        return None


def _kind(asked: _Asked) -> ErrorKind:
    """What it was, all in all."""
    if asked.answering.said:
        return ErrorKind.BROKE_OFF
    if ErrorKind.TOO_LONG in asked.errors:
        return ErrorKind.TOO_LONG  # with less of the conversation at least that one would answer
    return asked.errors[0] if len(set(asked.errors)) == 1 else ErrorKind.UNREACHABLE


def _ms(loop: asyncio.AbstractEventLoop) -> float:
    return loop.time() * 1e3
