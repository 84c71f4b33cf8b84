"""Several backends behind one: a pool that answers in time, within its zone of privacy, and finishes its sentence.

A pool is a `Backend` itself, so `language.chat` does not know how many there are. What happens is decided in
`pipeline/handoff/`; here backends are asked, their deltas go in as events, and what comes out is said.

Each backend's stream runs in a task of its own below the reply that wants it; it ends with the reply, or as soon as the
decision is that nothing of it is wanted. Failures of settings take a backend out until they change; others open its
breaker for a while. It comes back between turns only.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from thalweg.models.language.answer import AnswerFilter
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
    Usage,
)
from thalweg.models.language.registry import make
from thalweg.pipeline.duration import Duration
from thalweg.pipeline.handoff.answering import Action, Answering, Ask, Cancel, End, GiveUp, ReplyLimits, Say
from thalweg.pipeline.handoff.breaker import Breaker
from thalweg.pipeline.handoff.latency import LatencyModel
from thalweg.pipeline.handoff.privacy import Privacy, Zone
from thalweg.pipeline.handoff.router import Candidate, Route, RoutePolicy, choose

log = logging.getLogger(__name__)

TICK_S = 0.05
CLOSE_S = 2.0
SYNTHESIS_MS = 250.0
"""From a first clause of text to its first sound."""
CHARACTERS_PER_S = 15.0
"""Of English as it is spoken: how long there is still to play is reckoned from what was said."""
_CHARACTERS_PER_TOKEN = 4
_GO_ON = (
    "You were interrupted in the middle of your answer. Go on exactly where it stops, in the same sentence, "
    "and repeat nothing of it."
)
_SETTINGS = (ErrorKind.SETTINGS, ErrorKind.REFUSED)
_CANNOT_BE_HELPED = (ErrorKind.TOO_LONG, ErrorKind.FILTERED)


Events = asyncio.Queue[tuple[str, Delta | BackendError]]
"""What the backends of one reply say, in the order in which it came."""


class Member(BaseModel):
    """One backend of a pool, as a pipeline file says it. What else stands there are the backend's own parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)

    backend: Annotated[str | None, Field(description="as of `language.chat`; left out: by `url`")] = None
    where: Annotated[str, Field(pattern="^(edge|fog|cloud)$", description="how far words go to it")] = "cloud"
    cost: Annotated[float, Field(ge=0, description="of one reply, in units of one's own")] = 0.0
    quality: Annotated[
        float | None, Field(ge=0, le=1, description="share of questions it answers well; left out: by its cost")
    ] = None


class PoolPolicy(BaseModel):
    """How a pool chooses. `privacy`: the widest zone; `private`: words that keep a conversation at the edge."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    first_clause_within: Annotated[Duration, Field(description="when a first clause must be there")] = 900_000_000
    privacy: Annotated[str, Field(pattern="^(edge|fog|cloud)$")] = "cloud"
    private: Annotated[list[str], Field(description="names that must not leave the edge")] = []
    budget_per_hour: Annotated[float | None, Field(ge=0, description="of costs; left out: no limit")] = None
    prefer: Annotated[str, Field(pattern="^(quality|cost|latency)$")] = "quality"
    first_text_within: Annotated[Duration, Field(description="longest wait for a backend's first word")] = 4_000_000_000
    stall: Annotated[Duration, Field(description="silence in mid-answer that counts as one")] = 1_500_000_000
    hedge_after: Annotated[Duration | None, Field(description="ask a second beside a first that is slow")] = None


class _Streams:
    """The tasks of one reply. No task group: a generator must not yield within one (PEP 789)."""

    def __init__(self) -> None:
        self._newest: dict[str, asyncio.Task[None]] = {}
        self._all: set[asyncio.Task[None]] = set()

    def begin(self, name: str, stream: Coroutine[Any, Any, None]) -> None:
        """Run the stream of a backend."""
        self._newest[name] = task = asyncio.get_running_loop().create_task(stream, name=f"backend {name}")
        self._all.add(task)

    def cancel(self, name: str) -> None:
        """Nothing of a backend is wanted any more."""
        self._newest[name].cancel()

    async def close(self) -> None:
        """End all, and wait until they have; one that does not within `CLOSE_S` is left behind, and said to be."""
        for task in self._all:
            task.cancel()
        if not self._all:
            return
        _, hanging = await asyncio.wait(self._all, timeout=CLOSE_S)
        for task in hanging:
            log.warning("%s does not end, %g s after it was told to: it is left behind", task.get_name(), CLOSE_S)


@dataclass(slots=True)
class _Backend:
    """A member at work."""

    name: str
    said: Member
    backend: Backend
    latency: LatencyModel = field(default_factory=LatencyModel)
    breaker: Breaker = field(default_factory=Breaker)

    @property
    def where(self) -> Zone:
        """How far words go to it."""
        return Zone[self.said.where.upper()]

    @property
    def quality(self) -> float:
        """By its own words, else dearer is better."""
        return 1.0 - 1.0 / (2.0 + self.said.cost) if self.said.quality is None else self.said.quality


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
        self._members = {
            name: _Backend(name, member, (made or {}).get(name) or _make(name, member, defaults or {}))
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
        await asyncio.gather(*(m.backend.close() for m in self._members.values()), return_exceptions=True)

    async def prefill(self, request: Request) -> None:
        """Let the backends that may, and are likely, read along; privacy binds reading, too."""
        self.privacy.hear(_asked(request.messages))
        for member in self._members.values():
            if member.backend.abilities.reads_along and self.privacy.allows(member.where):
                await member.backend.prefill(request)

    def heard(self, playing: bool, now_s: float) -> None:
        """Play-out has begun with an answer at `now_s`, or it is over."""
        self._playing_s = now_s if playing else None

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Answer, by as many backends as it takes."""
        self.privacy.hear(_asked(request.messages))
        loop = asyncio.get_running_loop()
        route = self._route(request, loop.time())
        self.routes.append(route)
        policy = self.policy
        hedge_ns = policy.hedge_after
        limits = ReplyLimits(
            first_ms=policy.first_text_within / 1e6,
            stall_ms=policy.stall / 1e6,
            hedge_ms=None if hedge_ns is None else hedge_ns / 1e6,
        )
        answering = self.answering = Answering(route.order, limits, lambda name: self._needs_ms(name, request))
        events: Events = asyncio.Queue(256)
        asked = _Streams()
        reason = Reason.STOP
        try:
            actions = answering.begin(_ms(loop))
            while True:
                for action in actions:
                    if isinstance(action, End):
                        yield Finish(reason)
                        return
                    if isinstance(action, GiveUp):
                        kind = ErrorKind.BROKE_OFF if answering.said else ErrorKind.UNREACHABLE
                        raise BackendError(kind, action.reason)
                    if isinstance(action, Say):
                        yield Text(action.text)
                    else:
                        self._carry_out(action, request, asked, events)
                try:
                    async with asyncio.timeout(TICK_S):
                        name, told = await events.get()
                except TimeoutError:
                    actions = answering.buffered(self._left_ms(answering, loop.time()), _ms(loop))
                    continue
                if isinstance(told, Finish):
                    reason = told.reason
                if isinstance(told, Thinking | Progress):
                    yield Progress("empty")
                actions = self._take(answering, name, told, _ms(loop))
        finally:
            self._count(answering)
            self.answering = None
            await asked.close()

    def _carry_out(self, action: Ask | Cancel, request: Request, asked: _Streams, events: Events) -> None:
        """`asked`: the streams of this reply."""
        loop, member = asyncio.get_running_loop(), self._members[action.backend]
        if isinstance(action, Ask):
            self.counts[f"asked_{member.name}"] += 1
            if member.said.cost:
                self._spent.append((loop.time(), member.said.cost))
            asked.begin(member.name, self._stream(member, request, action.said, events))
        else:
            asked.cancel(member.name)
            if action.reason:
                member.breaker.failed(_ms(loop), action.reason)

    def _take(self, answering: Answering, name: str, told: Delta | BackendError, now_ms: float) -> list[Action]:
        member = self._members[name]
        if isinstance(told, Text):
            return answering.text(name, told.text, now_ms)
        if isinstance(told, Finish):
            member.breaker.answered()
            return answering.finished(name, now_ms)
        if isinstance(told, BackendError):
            if told.kind in _SETTINGS:
                member.breaker.misconfigured(str(told))
            elif told.kind not in _CANNOT_BE_HELPED:
                after_ms = None if told.retry_after_s is None else told.retry_after_s * 1e3
                member.breaker.failed(now_ms, str(told), after_ms)
            self.counts[f"failed_{name}"] += 1
            return answering.failed(name, str(told), now_ms)
        return answering.alive(name, now_ms, thinking=isinstance(told, Thinking))

    async def _stream(self, member: _Backend, request: Request, said: str, events: Events) -> None:
        """One backend's reply as events, the last of which is its end."""
        loop = asyncio.get_running_loop()
        began_s, first_s, characters, usage = loop.time(), None, 0, Usage()
        answer = AnswerFilter(request.max_tokens)
        try:
            async with aclosing(member.backend.reply(_continued(request, said, member.backend.abilities))) as deltas:
                async for raw in deltas:
                    for delta in answer.feed(raw):
                        if isinstance(delta, Usage):
                            usage = delta
                        if isinstance(delta, Text):
                            first_s = first_s or loop.time()
                            characters += len(delta.text)
                        await events.put((member.name, delta))
            if not answer.over:
                raise BackendError(ErrorKind.BROKE_OFF, "broke off: its reply ended without a `Finish`")
        except BackendError as error:
            await events.put((member.name, error))
            return
        except asyncio.CancelledError:
            raise
        except Exception as error:
            await events.put((member.name, BackendError(ErrorKind.NO_ANSWER, f"failed: {type(error).__name__}")))
            return
        if first_s is not None:
            new = (usage.prompt_tokens or _tokens(request.messages)) - (usage.cached_tokens or 0)
            tokens = usage.reply_tokens or characters // _CHARACTERS_PER_TOKEN
            member.latency.observe(max(0, new), (first_s - began_s) * 1e3, tokens, (loop.time() - began_s) * 1e3)

    def _route(self, request: Request, now_s: float) -> Route:
        """Who is asked, in which order."""
        while self._spent and self._spent[0][0] < now_s - 3600:
            self._spent.popleft()
        budget = self.policy.budget_per_hour
        left = None if budget is None else budget - sum(cost for _, cost in self._spent)
        within_ms, tokens = self.policy.first_clause_within / 1e6, _tokens(request.messages)
        candidates = [
            Candidate(
                name=member.name,
                where=member.where,
                quality=member.quality,
                cost=member.said.cost,
                in_time=member.latency.in_time(within_ms, tokens) if member.latency.answers >= 3 else 1.0,
                first_ms=member.latency.expected_first_ms(tokens),
                closed="" if member.breaker.allows(now_s * 1e3) else member.breaker.reason or "it is being tried",
            )
            for member in self._members.values()
        ]
        return choose(candidates, RoutePolicy(prefer=self.policy.prefer, budget_left=left), self.privacy.zone)

    def _needs_ms(self, name: str, request: Request) -> float:
        return self._members[name].latency.first_ms_at(0.95, _tokens(request.messages)) + SYNTHESIS_MS

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


def _make(name: str, member: Member, defaults: Mapping[str, Any]) -> Backend:
    own = member.model_extra or {}
    kind = member.backend or ("openai" if own.get("url") else "llamacpp")
    if member.where == "edge" and own.get("url"):
        raise BackendError(
            ErrorKind.SETTINGS,
            f"backend {name} has a url and says `where: edge`: edge is this process; say fog or cloud",
        )
    try:
        return make(kind, own, defaults)
    except BackendError as error:
        raise BackendError(error.kind, f"backend {name}: {error}") from None


def _continued(request: Request, said: str, abilities: Abilities) -> Request:
    """The request that goes on from what was said, by what the backend can."""
    if not said:
        return replace(request, prefix="")
    if abilities.continues == "prefix":
        return replace(request, prefix=said)
    if abilities.continues == "instruct":
        rest = [Message("assistant", said), Message("user", _GO_ON)]
        return replace(request, messages=[*request.messages, *rest], prefix="")
    return replace(request, prefix="")


def _asked(messages: Sequence[Message]) -> str:
    return next((message.text for message in reversed(messages) if message.role == "user"), "")


def _tokens(messages: Sequence[Message]) -> int:
    return sum(len(message.text) for message in messages) // _CHARACTERS_PER_TOKEN


def _ms(loop: asyncio.AbstractEventLoop) -> float:
    return loop.time() * 1e3
