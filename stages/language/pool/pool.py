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
from dataclasses import replace
from typing import Any

from thalweg.models.language.backend import (
    Abilities,
    Backend,
    BackendError,
    Delta,
    ErrorKind,
    Finish,
    Message,
    Progress,
    Request,
    Text,
    Thinking,
)
from thalweg.pipeline.handoff.answering import Action, Answering, AskBackend, Cancel, End, GiveUp, ReplyLimits, Say
from thalweg.pipeline.handoff.budget import Budget
from thalweg.pipeline.handoff.hedging import HedgeAllowance, hedge_at_ms
from thalweg.pipeline.handoff.privacy import Privacy, Zone
from thalweg.pipeline.handoff.router import SURE, Candidate, Route, RoutePolicy, choose
from thalweg.pipeline.payload import Routed
from thalweg.stages.language.pool.asked import SURE_ENOUGH, Asked, routed
from thalweg.stages.language.pool.confidence import accepted_from
from thalweg.stages.language.pool.expected import Expected
from thalweg.stages.language.pool.member import CHARACTERS_PER_TOKEN, AtWork, Member, Told, at_work, tokens_of
from thalweg.stages.language.pool.policy import PoolPolicy
from thalweg.stages.language.pool.together import join
from thalweg.stages.language.pool.trials import TRIED_WITH, Trials
from thalweg.stages.language.pool.warming import warm

__all__ = ["Member", "Pool", "PoolPolicy"]

_SETTINGS = (ErrorKind.SETTINGS, ErrorKind.REFUSED)
_CANNOT_BE_HELPED = (ErrorKind.TOO_LONG, ErrorKind.FILTERED)


class Pool:
    """See above. `counts`: shown in reports and metrics. `routes`: the newest decisions; `routed`: what became of the
    last one, for who takes it. `first`: who is asked first wherever it may be asked.
    """

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
        named = {name: member.known_as for name, member in members.items()}
        if policy.cascade is not None:
            for member in self._members.values():
                member.accepted_from = accepted_from(named[member.name], policy.cascade)
        if all(member.where > limit for member in self._members.values()):
            why = f"privacy is {policy.privacy}, and no backend is there: say where one is with `where`"
            raise BackendError(ErrorKind.SETTINGS, why)
        along = any(m.backend.abilities.reads_along for m in self._members.values() if m.where is Zone.EDGE)
        images = any(m.backend.abilities.images for m in self._members.values())
        self.abilities = Abilities(reads_along=along, images=images, continues="prefix")  # each by what it can
        self.policy = policy
        self.first = ""
        self.privacy = Privacy(limit, policy.private)
        self.counts: Counter[str] = Counter()
        self.routes: deque[Route] = deque(maxlen=32)
        self.routed: Routed | None = None
        self._allowance = HedgeAllowance(policy.hedge_share)
        self._budget = Budget(policy.budget_per_hour)
        self._described = None if made else {"members": dict(members), "policy": policy}
        self._heard_out_s: float | None = None
        self._expected = Expected(named if policy.by_question else {})
        self._trials = Trials(policy.first_text_within / 1e9, self._may_try, policy.audit, self.counts)

    @property
    def names(self) -> list[str]:
        """Of its backends."""
        return list(self._members)

    @property
    def name(self) -> str:
        """For the operator."""
        return f"the pool of {', '.join(self._members)}:"

    async def open(self) -> None:
        """Open all; one that cannot be opened is out, and it is an error only where none is left."""
        if self._described is not None:
            self._budget = join(self._described, self._members, self._budget)
        await self._expected.open()
        outcomes = await asyncio.gather(*(m.backend.open() for m in self._members.values()), return_exceptions=True)
        failed = []
        for member, outcome in zip(self._members.values(), outcomes, strict=True):
            if isinstance(outcome, BackendError):
                member.misconfigured(str(outcome))
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
        await self._trials.leave()
        self._expected.close()
        await asyncio.gather(*(m.backend.close() for m in self._members.values()), return_exceptions=True)

    async def prefill(self, request: Request) -> None:
        """Let the backends that may, and are likely, read along; privacy binds reading, too."""
        self._hear(request.messages)
        await self._expected.hear(request.messages[-1].asked)
        for member in self._members.values():
            if member.backend.abilities.reads_along and self.privacy.allows(member.where):
                await member.backend.prefill(request)

    async def warm(self, request: Request) -> bool:
        """Let those that will probably be asked, and may be, connect: who is first by now, and who is behind."""
        await self._trials.audits.leave()
        self._hear(request.messages)
        route = self._route(request, asyncio.get_running_loop().time())
        likely = [self._sure_first(route, request, self.policy.first_clause_within / 1e6), *route.order[:2]]
        await warm({f"_{name}": self._members[name].backend for name in likely if name}, request, self.counts)
        return False

    def heard(self, ahead_ms: float) -> None:
        """Play-out has so much sound to play of the answer under way; from then on there is none unless it says so."""
        self._heard_out_s = asyncio.get_running_loop().time() + ahead_ms / 1e3

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Answer, by as many backends as it takes."""
        self.routed = None
        await self._trials.leave()
        self._hear(request.messages)
        await self._expected.hear(request.messages[-1].asked)
        loop = asyncio.get_running_loop()
        route = self._route(request, loop.time())
        if not request.trial:
            self.routes.append(route)
        if not route.order:
            self.routed = None if request.trial else routed(route)
            raise BackendError(ErrorKind.NOBODY, f"no language model may be asked: {route.reason}")
        if request.trial and not self._members[route.chosen].drafts(self.policy.drafts):
            raise BackendError(ErrorKind.NOBODY, f"no answer is drafted by {route.chosen}")
        alone = [name for name, member in self._members.items() if member.said.alone]
        within_ms = self.policy.first_clause_within / 1e6
        first = "" if request.prefix else self._sure_first(route, request, within_ms)
        if first:
            within_ms -= self._members[first].clause_ms(request.messages)
        order = (first, *(name for name in route.order if name != first), first) if first else route.order
        limits = self._limits(route, request, within_ms)
        answering = Answering(
            order,
            limits,
            needs_ms=lambda name: self._members[name].needs_ms(request, answering.said),
            paused_ms=lambda name: self._members[name].latency.paused_ms,
            alone=alone,
            begun=request.prefix,
        )
        asked = Asked(request, route, answering, loop.time(), first=first)
        self._heard_out_s = None if self._heard_out_s is None else 0.0
        try:
            actions = deque(answering.begin(_ms(loop)))
            while True:
                while actions:
                    action = actions.popleft()
                    if isinstance(action, End):
                        self._probe_others(request, answering)
                        if asked.taken:
                            self._trials.audit(self._members[route.chosen], request, answering.said)
                        yield Finish(asked.reason)
                        return
                    if isinstance(action, GiveUp):
                        raise BackendError(asked.kind(), action.reason)
                    if isinstance(action, Say):
                        asked.first_s = asked.first_s or loop.time()
                        yield Text(action.text)
                    else:
                        actions.extendleft(reversed(self._carry_out(action, asked, _ms(loop))))
                told = await asked.streams.next(answering.due_ms(_ms(loop)) - _ms(loop))
                if told is None:
                    yield Progress("empty")
                elif asked.streams.is_current(told):
                    actions += self._take(asked, told, _ms(loop))
                if self._heard_out_s is not None:
                    actions += answering.buffered(max(0.0, self._heard_out_s * 1e3 - _ms(loop)), _ms(loop))
                elif told is None or answering.due_ms(_ms(loop)) <= _ms(loop):
                    actions += answering.passed(_ms(loop))
        finally:
            self._count(answering, tokens_of(request.messages))
            self.routed = asked.routed()
            for name in answering.under_way:
                self._members[name].breaker.let_go()
            await asked.streams.close()

    def _sure_first(self, route: Route, request: Request, within_ms: float) -> str:
        """Who is asked first, and whether it is sure: one that costs less, with time left for the chosen one behind."""
        chosen = self._members[route.chosen]
        for name in route.order if self.policy.cascade is not None and route.chosen != self.first else ():
            member = self._members[name]
            clauses_ms = member.clause_ms(request.messages) + chosen.clause_ms(request.messages)
            cheaper = member.said.cost < chosen.said.cost and not member.said.alone
            if cheaper and member.accepted_from is not None and clauses_ms <= within_ms:
                return name
        return ""

    def _limits(self, route: Route, request: Request, within_ms: float) -> ReplyLimits:
        return ReplyLimits(
            first_ms=self.policy.first_text_within / 1e6,
            stall_ms=self.policy.stall / 1e6,
            hedge_ms=self._hedge_ms(route, request, within_ms),
            hedges=1 if self.policy.hedge_after == "auto" else len(self._members),
        )

    def _hedge_ms(self, route: Route, request: Request, within_ms: float) -> float | None:
        after = self.policy.hedge_after
        if after is None or len(route.order) < 2:
            return None
        if after != "auto":
            return after / 1e6
        if not self._allowance.may(tokens_of(request.messages)):
            return None
        first, other = (self._members[name] for name in route.order[:2])
        first_ms = first.latency.first_ms_at(SURE, first.new_of(request.messages))
        return hedge_at_ms(first_ms, other.clause_ms(request.messages), within_ms)

    def _carry_out(self, action: AskBackend | Cancel, asked: Asked, now_ms: float) -> list[Action]:
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
        self.privacy.hear(action.said)
        refused = self._refused(member, now_ms / 1e3)
        if asked.now().trial and not member.drafts(self.policy.drafts, action.said):
            asked.errors.append(ErrorKind.NOBODY)
            refused = "it is asked when the question is over"
        if refused:
            return asked.answering.failed(member.name, refused, now_ms)
        self.counts[f"asked_{member.name}"] += 1
        self._budget.pay(member.said.cost, now_ms / 1e3)
        asked.cost += member.said.cost
        member.breaker.tries()
        whether_sure, asked.first = (member.accepted_from, "") if asked.first == member.name else (None, asked.first)
        asked.note = asked.note if whether_sure is None else f"; {member.name} {SURE_ENOUGH}"
        asked.streams.ask(member, asked.now(), action.said, whether_sure)
        return []

    def _take(self, asked: Asked, told: Told, now_ms: float) -> list[Action]:
        answering, member, what = asked.answering, self._members[told.name], told.what
        if isinstance(what, Text):
            return answering.text(member.name, what.text, now_ms)
        if isinstance(what, Finish):
            asked.reason = what.reason
            member.breaker.answered()
            return answering.finished(member.name, now_ms)
        if isinstance(what, BackendError):
            if what.kind is ErrorKind.UNSURE:
                asked.note = f"; {member.name} {what}"
                self.counts[f"unsure_{member.name}"] += 1
                member.breaker.answered()
                return answering.failed(member.name, str(what), now_ms)
            asked.errors.append(what.kind)
            if what.kind in _SETTINGS:
                member.misconfigured(str(what))
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

    def _refused(self, member: AtWork, now_s: float) -> str:
        """Why one that was on the route may not be asked any more: for what was said and spent since; empty: it may."""
        if not self.privacy.allows(member.where):
            return f"words may not leave the {self.privacy.zone.name.lower()}"
        left = self._budget.left(now_s)
        return "" if left is None or member.said.cost <= left else f"it costs {member.said.cost:g}, {left:g} are left"

    def _route(self, request: Request, now_s: float) -> Route:
        """Who is asked, in which order; a draft that may have half a name at its end goes to none but the edge."""
        within_ms, messages = self.policy.first_clause_within / 1e6, request.messages
        closed = {
            name: "" if member.breaker.allows(now_s * 1e3) else member.breaker.reason or "it is being tried"
            for name, member in self._members.items()
        }
        candidates = [
            Candidate(
                name=member.name,
                where=member.where,
                quality=self._expected.of(member.name, member.quality),
                cost=member.said.cost,
                in_time=self._in_time(member, within_ms, messages),
                first_ms=member.latency.expected_first_ms(member.new_of(messages)),
                closed=closed[member.name],
            )
            for member in self._members.values()
        ]
        hedged = self.policy.hedge_after == "auto" and self._allowance.may(tokens_of(messages))
        policy = RoutePolicy(
            prefer=self.policy.prefer,
            first=self.first,
            budget_left=self._budget.left(now_s),
            hedged_by=(lambda one, other: self._may_help(one, other, within_ms, messages)) if hedged else None,
        )
        half = request.trial and self.privacy.may_become_private(messages[-1].text)
        return choose(candidates, policy, Zone.EDGE if half else self.privacy.zone)

    def _may_help(self, one: str, other: str, within_ms: float, messages: Sequence[Message]) -> bool:
        """Whether the other may be asked beside the one, and its first clause is there in time then."""
        alone = self._members[one].said.alone or self._members[other].said.alone
        return not alone and self._members[other].clause_ms(messages) < within_ms

    def _in_time(self, member: AtWork, within_ms: float, messages: Sequence[Message]) -> float:
        """One that may be back is not relied on, where it is going to be tried between turns."""
        if member.breaker.half_open and self.policy.probe_every is not None and not member.said.alone:
            return 0.0
        latency = member.latency
        return latency.in_time(within_ms, member.new_of(messages)) if latency.answers >= 3 else 1.0

    def _count(self, answering: Answering, tokens: int) -> None:
        self._allowance.turn(tokens + len(answering.said) // CHARACTERS_PER_TOKEN)
        self._allowance.spend(answering.hedges * tokens)
        self.counts["switches"] += answering.switches
        self.counts["hedges"] += answering.hedges
        if answering.speaker:
            self.counts[f"answered_{answering.speaker}"] += 1

    def _probe_others(self, request: Request, answering: Answering) -> None:
        """Between two turns, try those that may be back or have become fast again: they read what they will need."""
        so_far = [*request.messages, Message("assistant", answering.said)]
        self._hear(so_far)
        every_ns, loop = self.policy.probe_every, asyncio.get_running_loop()
        if every_ns is None:
            return
        question = replace(request, messages=[*so_far, TRIED_WITH], max_tokens=1, prefix="")
        within_ms, now_s = self.policy.first_clause_within / 1e6, loop.time()
        doubtful = []
        for member in self._members.values():
            if member.said.alone or not member.breaker.allows(now_s * 1e3):
                continue
            rested = now_s - member.known.asked_s > every_ns / 1e9
            late = rested and self._in_time(member, within_ms, so_far) < SURE
            if member.breaker.half_open or late:
                doubtful.append(member)
        self._trials.begin(doubtful, question)

    def _may_try(self, member: AtWork, counted: str) -> bool:
        """Whether it may be asked between turns now, which is paid for then."""
        now_s = asyncio.get_running_loop().time()
        if self._refused(member, now_s):
            return False
        self.counts.update([f"{counted}_{member.name}"] if counted else [])
        self._budget.pay(member.said.cost, now_s)
        return True


def _ms(loop: asyncio.AbstractEventLoop) -> float:
    return loop.time() * 1e3
