"""One backend of a pool: what a pipeline file says of it, what is known of it, and how its stream is listened to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import takewhile
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
    Request,
    Text,
    Usage,
    without_pictures,
)
from thalweg.models.language.registry import make
from thalweg.pipeline.handoff.breaker import Breaker
from thalweg.pipeline.handoff.cascade import CLAUSE, score
from thalweg.pipeline.handoff.latency import CLAUSE_TOKENS, LatencyModel
from thalweg.pipeline.handoff.privacy import Zone
from thalweg.pipeline.handoff.router import SURE
from thalweg.pipeline.handoff.seam import is_sentence, last_sentence
from thalweg.stages.language.pool.together import Known

log = logging.getLogger(__name__)

CLOSE_S = 2.0
TICK_S = 0.25
"""How often an answer under way that nothing happens to is looked at, and said to be under way."""
CHARACTERS_PER_TOKEN = 4
SENTENCE_TOKENS, SENTENCE_WORDS, WORD_MS = 20, 15, 40.0
"""What another that goes on must say before more can be heard: what a sentence still lacks; and from there to its first
sound: that and the words that wait for it, each so long."""
_GO_ON = (
    "You were interrupted in the middle of your answer. Go on exactly where it stops, in the same sentence, "
    "and repeat nothing of it."
)


class Member(BaseModel):
    """One backend of a pool, as a pipeline file says it. What else stands there are the backend's own parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)

    backend: Annotated[str | None, Field(description="as of `language.chat`; left out: by `url`")] = None
    where: Annotated[str, Field(pattern="^(edge|fog|cloud)$", description="how far words go to it")] = "cloud"
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False, description="of one reply, in units of one's own")] = 0.0
    alone: Annotated[
        bool, Field(description="it does things besides answering: never asked on trial, nor beside another")
    ] = False
    quality: Annotated[
        float | None, Field(ge=0, le=1, description="share of questions it answers well; left out: by its cost")
    ] = None

    @property
    def known_as(self) -> str:
        """The name of its model, under which something may have been learned of it; empty where `file` is another."""
        own = self.model_extra or {}
        return "" if own.get("file") else str(own.get("model", ""))


@dataclass(slots=True)
class AtWork:
    """A member and what is `known` of it. `asked_s`: when last, here; `silent`: it has not said a word since; `read`:
    what it has last answered to, here.
    """

    name: str
    said: Member
    backend: Backend
    known: Known = field(default_factory=Known)
    asked_s: float = float("-inf")
    silent: bool = False
    read: Sequence[Message] = ()
    accepted_from: float | None = None

    @property
    def latency(self) -> LatencyModel:
        """How soon it answers."""
        return self.known.latency

    @property
    def breaker(self) -> Breaker:
        """Whether it is asked at all."""
        return self.known.breaker

    def misconfigured(self, reason: str) -> None:
        """It refuses what this conversation asks, or how; others may ask for something else."""
        self.breaker.let_go()
        self.known = Known(self.latency, Breaker(), self.known.asked_s)
        self.breaker.misconfigured(reason)

    @property
    def where(self) -> Zone:
        """How far words go to it."""
        return Zone[self.said.where.upper()]

    @property
    def quality(self) -> float:
        """By its own words, else dearer is better."""
        return 1.0 - 1.0 / (2.0 + self.said.cost) if self.said.quality is None else self.said.quality

    def drafts(self, which: str, said: str = "") -> bool:
        """Whether it is asked while the question may not be over. `which`: of the policy; `said`: what it would go on
        from, which is not given up for its cost.
        """
        return not self.said.alone and (which == "any" or not self.said.cost or bool(said))

    def needs_ms(self, request: Request, said: str) -> float:
        """From being asked to go on until that can be heard; one that can only begin anew says all of it again."""
        again = len(said) // CHARACTERS_PER_TOKEN if self.backend.abilities.continues == "none" else 0
        words = SENTENCE_WORDS + len(last_sentence(said).split())
        return self.clause_ms(request.messages, SENTENCE_TOKENS + again) + WORD_MS * words

    def new_of(self, messages: Sequence[Message]) -> int:
        """How many tokens of these it is expected to have to read."""
        return self.latency.new_of(tokens_of(messages), self.repeated(messages))

    def repeated(self, messages: Sequence[Message]) -> int:
        """How many tokens of these stood at the beginning of what it was last asked in this conversation, too."""
        pairs = takewhile(lambda pair: pair[0] == pair[1], zip(messages, self.read, strict=False))
        return tokens_of([message for message, _ in pairs])

    def clause_ms(self, messages: Sequence[Message], tokens: int = CLAUSE_TOKENS) -> float:
        """By when it has, in nearly all cases, answered these with so many tokens."""
        return self.latency.clause_ms_at(SURE, self.new_of(messages), tokens)

    def hung_up_on(self, request: Request, now_s: float) -> None:
        """It was not needed: where it had said nothing yet, for longer than can be expected, that is learned from."""
        new, waited_ms = self.new_of(request.messages), (now_s - self.asked_s) * 1e3
        if self.silent and waited_ms > self.latency.first_ms_at(0.95, new):
            self.latency.observe(new, waited_ms)


@dataclass(frozen=True, slots=True)
class Told:
    """Something that a stream said. `attempt`: which of a reply's; a name may be asked again."""

    name: str
    attempt: int
    what: Delta | BackendError


class Streams:
    """The tasks of one reply. No task group: a generator must not yield within one (PEP 789).

    `told`: what the streams say, in the order in which it comes, 256 deltas at most.
    """

    def __init__(self) -> None:
        self.told: asyncio.Queue[Told] = asyncio.Queue(256)
        self._newest: dict[str, tuple[int, asyncio.Task[None]]] = {}
        self._all: set[asyncio.Task[None]] = set()

    def ask(self, member: AtWork, request: Request, said: str, accepted_from: float | None = None) -> None:
        """Let a backend answer, or go on from what was said. `accepted_from`: see `sure`."""
        stream = self._listen(member, request, said, len(self._all), accepted_from)
        self._begin(member.name, stream)

    def _begin(self, name: str, stream: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(stream, name=f"backend {name}")
        self._newest[name] = len(self._all), task
        self._all.add(task)

    async def next(self, within_ms: float) -> Told | None:
        """What is said next; None where nothing is within that time, or `TICK_S`."""
        try:
            async with asyncio.timeout(min(TICK_S, max(1e-3, within_ms / 1e3))):
                return await self.told.get()
        except TimeoutError:
            return None

    def is_current(self, told: Told) -> bool:
        """Whether it was said by a stream that is wanted: not the late word of one that was hung up on."""
        return self._newest.get(told.name, (-1,))[0] == told.attempt

    def cancel(self, name: str) -> None:
        """Nothing of a backend is wanted any more."""
        _, task = self._newest.pop(name)
        task.cancel()

    async def close(self) -> None:
        """End all, and wait until they have, `CLOSE_S` at most."""
        await end(self._all, CLOSE_S)

    async def _listen(
        self, member: AtWork, request: Request, said: str, attempt: int, accepted_from: float | None
    ) -> None:
        """One backend's reply as events, the last of which is its end."""
        reply = listen(member, continued(request, said, member.backend.abilities), begun=is_sentence(said))
        if accepted_from is not None:
            reply = sure(listen(member, replace(request, prefix="", logprobs=True)), accepted_from)
        try:
            async with aclosing(reply) as deltas:
                async for delta in deltas:
                    await self.told.put(Told(member.name, attempt, delta))
        except BackendError as error:
            await self.told.put(Told(member.name, attempt, error))


async def listen(
    member: AtWork, request: Request, *, begun: bool = False, trial: bool = False
) -> AsyncGenerator[Delta, None]:
    """A backend's reply through the filter of answers. What it takes is learned. Raises BackendError, nothing else.

    `begun`: with sentences said elsewhere, behind which there may be nothing left to say; `trial`: it need not say
    anything either, as long as its reply ends, and is shown no picture.
    """
    loop = asyncio.get_running_loop()
    member.asked_s = member.known.asked_s = began_s = loop.time()
    member.silent = True
    first_s, last_s, paused_s, characters, usage = None, None, 0.0, 0, Usage()
    answer = AnswerFilter(request.max_tokens, begun=begun)
    if trial or not member.backend.abilities.images:
        request = replace(request, messages=without_pictures(request.messages))
    try:
        async with aclosing(member.backend.reply(request)) as deltas:
            async for raw in deltas:
                try:
                    told = answer.feed(raw)
                except BackendError:
                    if not (trial and answer.over):
                        raise
                    break
                for delta in told:
                    if isinstance(delta, Usage):
                        usage = delta
                    if isinstance(delta, Text) and delta.text.strip():
                        now_s = loop.time()
                        first_s, member.silent = first_s or now_s, False
                        paused_s, last_s = max(paused_s, now_s - (last_s or now_s)), now_s
                        characters += len(delta.text)
                    yield delta
        if not answer.over:
            raise BackendError(ErrorKind.BROKE_OFF, "broke off: its reply ended without a `Finish`")
    except (BackendError, asyncio.CancelledError, GeneratorExit):
        raise
    except Exception as error:
        raise BackendError(ErrorKind.NO_ANSWER, f"failed: {type(error).__name__}") from error
    finally:
        if first_s is not None:
            new, cached = member.new_of(request.messages), None
            repeated = member.repeated(request.messages) / max(1, tokens_of(request.messages))
            member.read = request.messages
            if usage.prompt_tokens:  # else hung up on before it said so
                new, cached = max(0, usage.prompt_tokens - (usage.cached_tokens or 0)), usage.cached_tokens
            tokens = usage.reply_tokens or characters // CHARACTERS_PER_TOKEN
            first_ms, whole_ms = (first_s - began_s) * 1e3, (loop.time() - began_s) * 1e3
            member.latency.observe(new, first_ms, tokens, whole_ms, cached_tokens=cached, repeated=repeated)
            member.latency.paused(paused_s * 1e3)


async def sure(reply: AsyncGenerator[Delta, None], accepted_from: float) -> AsyncGenerator[Delta, None]:
    """A reply, of which nothing is said before its first clause is there and its score is at least `accepted_from`.

    Raises BackendError of kind UNSURE where it is not.
    """
    held: list[Delta] = []
    logprobs: list[float] = []
    accepted = False
    async with aclosing(reply) as deltas:
        async for delta in deltas:
            if accepted:
                yield delta
                continue
            held.append(delta)
            if isinstance(delta, Text):
                logprobs += delta.logprobs
            if len(logprobs) < CLAUSE and not isinstance(delta, Finish):
                yield Progress("empty")
                continue
            found = score(logprobs)
            if found is None or found < accepted_from:
                how = "says no log-probabilities" if found is None else f"is not sure enough: {found:.2f}"
                raise BackendError(ErrorKind.UNSURE, f"{how}, expected {accepted_from:.2f}")
            accepted = True
            for earlier in held:
                yield earlier


async def end(tasks: Collection[asyncio.Task[None]], within_s: float) -> None:
    """Cancel tasks, and wait until they have ended; one that does not in time is left behind, and said to be."""
    for task in tasks:
        task.cancel()
    hanging = (await asyncio.wait(tasks, timeout=within_s))[1] if tasks else ()
    for task in hanging:
        log.warning("%s does not end, %g s after it was told to: it is left behind", task.get_name(), within_s)


def at_work(name: str, member: Member, defaults: Mapping[str, Any]) -> AtWork:
    """Make the backend that a member describes. Raises BackendError that names it."""
    own = member.model_extra or {}
    kind = member.backend or ("openai" if own.get("url") else "llamacpp")
    if member.where == "edge" and own.get("url"):
        raise BackendError(
            ErrorKind.SETTINGS,
            f"backend {name} has a url and says `where: edge`: edge is this process; say fog or cloud",
        )
    try:
        return AtWork(name, member, make(kind, own, defaults))
    except BackendError as error:
        raise BackendError(error.kind, f"backend {name}: {error}") from None


def continued(request: Request, said: str, abilities: Abilities) -> Request:
    """The request that goes on from what was said, by what the backend can.

    White space at its end is left out: tokens begin with theirs, and behind a space a model goes on with what needs
    none, such as a number.
    """
    said = said.rstrip()
    if not said:
        return replace(request, prefix="")
    if abilities.continues == "prefix":
        return replace(request, prefix=said)
    if abilities.continues == "instruct":
        rest = [Message("assistant", said), Message("user", _GO_ON)]
        return replace(request, messages=[*request.messages, *rest], prefix="")
    return replace(request, prefix="")


def tokens_of(messages: Sequence[Message]) -> int:
    """About how many tokens these are."""
    return sum(len(message.text) for message in messages) // CHARACTERS_PER_TOKEN
