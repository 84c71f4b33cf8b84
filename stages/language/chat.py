"""Asking a language model: embedded, behind any OpenAI-compatible address, one of another package, or none at all.

    backend    answers with
    llamacpp   a model of the store, in this process
    openai     the server at `url`; without one, OpenAI's own
    echo       the question itself, word by word: for trying a pipeline out without a model
    another    what a package registers as one (docs/writing-a-backend.md), or `module:Class`
    several    a pool (`pool.py`): the best that is in time answers, and another goes on where one breaks off

While the person still speaks, the stable part of what was recognised so far is already given to an embedded model, so
that at the end of the turn only the last words are left to read before the first token comes. In a pause of the voice,
an answer is begun on trial (`reply.py`): nothing of it leaves this stage as tokens before the final transcript has
come, the very one that the draft answers; if another one comes, or more is said, the draft is dropped.

On a worker that another machine lends (`placement`, docs/handoff.md) answers are emitted in whole words and none is
drafted. Where that worker is lost in mid-answer, the stage at home goes on from the last word that has come (`go_on`).
What crosses to it, and when the conversation stays, `crossing.py` says.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from thalweg.models.language.backend import Backend, ErrorKind, Message, Picture
from thalweg.models.language.registry import address, known
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.handoff.privacy import Privacy
from thalweg.pipeline.handoff.seam import Seam, WordGate
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Draft, Payload, Pictured, Routed, Token, Transcript
from thalweg.pipeline.signal import Ahead, Interrupt, Played, Signal
from thalweg.pipeline.stage import Context, Port, StageError
from thalweg.stages.language.backends import backend_of, stays_here
from thalweg.stages.language.conversation import Conversation, likely, same_question
from thalweg.stages.language.crossing import Crossing
from thalweg.stages.language.model import LanguageModelError, Model, nothing_follows
from thalweg.stages.language.pool.pool import Member, Pool, PoolPolicy
from thalweg.stages.language.reply import Reply, ReplyState
from thalweg.stages.language.under_way import UnderWay

__all__ = ["Chat", "LanguageModelError"]

log = logging.getLogger(__name__)

_VERDICT_S = 2.0
_FIRST_S = 10.0  # before the first turn there is time to read what every conversation begins with


class Chat:
    """Answers transcripts token by token, and remembers the conversation.

    A turn that is interrupted stops at once. The part of the answer that was heard stays in the conversation, or all
    that was generated where no stage reports what was heard. Fails the turn, and only that, where the model does not
    answer. A model's thoughts are not emitted, and a model that repeats itself endlessly is stopped. Of several models,
    `route` says for each turn which one answered, and why.
    """

    inputs = {"transcript": Transcript}
    outputs = {"token": Token, "draft": Port(Draft, required=False), "route": Port(Routed, required=False)}
    configurable = ("first",)

    def __init__(
        self,
        model: Annotated[str, Field(description="name in the model store, or at `url`")] = "smollm2-135m-instruct",
        backend: Annotated[
            str | Backend | None,
            PlainValidator(lambda given: known(given) if isinstance(given, str) else given),
            WithJsonSchema({"type": "string"}),
            Field(
                description="llamacpp, openai, echo, another installed backend, or module:Class; default: openai with "
                "a `url`, else llamacpp"
            ),
        ] = None,
        url: Annotated[
            str, AfterValidator(address), Field(description="base address of an OpenAI-compatible server, …/v1")
        ] = "",
        api_key_env: Annotated[
            str | None,
            Field(
                description="environment variable that holds the key for `url`; if left out: OPENAI_API_KEY, for "
                "OpenAI, this machine and where THALWEG_KEYS says (docs/security.md)"
            ),
        ] = None,
        options: Annotated[
            Mapping[str, Any] | None, Field(description="further parameters, as the backend documents them")
        ] = None,
        system: Annotated[
            str, Field(description="system prompt")
        ] = "You are a helpful voice assistant. Answer in one or two short, plain sentences.",
        max_tokens: Annotated[int, Field(ge=1, description="longest reply, tokens")] = 96,
        temperature: Annotated[float, Field(ge=0, le=2, description="0 is always the most likely token")] = 0.0,
        history: Annotated[
            int, Field(ge=0, description="earlier turns in the prompt, at least; up to half as many more")
        ] = 4,
        timeout: Annotated[
            Duration,
            Field(description="timeout for the first and each further token; 6 times that while a server sends pings"),
        ] = 10_000 * MS,
        retries: Annotated[
            int, Field(ge=0, le=10, description="further attempts if a server is unreachable, too busy or fails")
        ] = 2,
        prefill: Annotated[
            bool | None,
            Field(description="process the prompt while the person speaks; default: with an embedded model"),
        ] = None,
        draft: Annotated[
            bool | None,
            Field(
                description="draft an answer in each pause, in case the turn is over; default: with an embedded model"
            ),
        ] = None,
        threads: Annotated[
            int | None,
            Field(
                ge=1,
                description="of an embedded model; if left out: one fewer than processors, at most 4; both of two, "
                "where OpenMP lets threads sleep that wait for each other",
            ),
        ] = None,
        backends: Annotated[
            Mapping[str, Member] | None,
            Field(
                description="several backends instead of one: name → `where` (edge, fog, cloud), `cost`, its parameters"
            ),
        ] = None,
        policy: Annotated[PoolPolicy | None, Field(description="how one of several backends is chosen")] = None,
        images: Annotated[
            bool, Field(description="the model accepts images, such as `language.sight` attaches to questions")
        ] = False,
        first: Annotated[
            str,
            Field(description="backend of the pool that is asked first if the policy allows it; default: by `policy`"),
        ] = "",
    ) -> None:
        given = {"model": model, "url": url, "api_key_env": api_key_env, "retries": retries, "threads": threads}
        given |= {"images": True} if images else {}
        made = backend_of(backend, backends, policy, options or {}, given)
        self._pool = made if isinstance(made, Pool) else None
        if first:
            self.configure({"first": first})
        self.counts = self._pool.counts if self._pool is not None else Counter[str]()
        self._model = Model(
            made,
            called=model,
            max_tokens=max_tokens,
            temperature=temperature,
            timeout_ns=timeout,
            counts=self.counts,
        )
        self._prefill = made.abilities.reads_along if prefill is None else prefill
        self._drafts = made.abilities.reads_along if draft is None else draft
        self._conversation = Conversation(system, history)
        privacy = Privacy() if self._pool is None else self._pool.privacy
        here = self._pool is not None or stays_here(backend, options or {}, given)
        self._crossing = Crossing(privacy, here=here)
        self._under_way = UnderWay()
        self._answered = AMBIENT
        self._read = ""

    async def open(self, ctx: Context) -> None:
        """Load the model where it is embedded; otherwise nothing is asked before the first turn."""
        await self._model.open()
        if self._prefill:
            await self._model.read_along(self._conversation.messages(""), within_s=_FIRST_S)

    async def close(self) -> None:
        """Close the connection, and release the embedded model, which is freed with its last user."""
        await self._model.close()

    @staticmethod
    def may_become(arguments: Mapping[str, Any]) -> Mapping[str, Collection[str]]:
        """One of its backends."""
        return {"first": ("", *(arguments.get("backends") or ()))}

    @staticmethod
    def keeps_here(arguments: Mapping[str, Any]) -> str:
        """Words cross to another machine before a pool's policy could keep them."""
        policy = arguments.get("policy") or PoolPolicy()
        if policy.privacy == "cloud" and not policy.private:
            return ""
        said = f"privacy: {policy.privacy}" if policy.privacy != "cloud" else "private"
        return f"its `policy` says `{said}`, and all that is heard would cross; leave that out, or the placement"

    @property
    def stays(self) -> bool:
        """Whether something private was said: the conversation must not cross to another machine any more."""
        return self._crossing.stays

    def crossing(self, packet: Packet) -> Packet | None:
        """A final transcript; of one that grows only that there is one, once a turn."""
        return self._crossing.of(packet)

    def configure(self, settings: dict[str, Any]) -> None:
        """Have another backend answer, from the next question on. Raises LanguageModelError where there is none."""
        first = settings.get("first", "")
        known = [] if self._pool is None else self._pool.names
        if first and first not in known:
            raise LanguageModelError(
                f"`first` is {first!r}, expected one of `backends`: {', '.join(known) or 'there are none'}",
                ErrorKind.SETTINGS,
            )
        if self._pool is not None:
            self._pool.first = first

    def snapshot(self) -> dict[str, Any]:
        """The conversation so far. No word of a question that is still spoken: a snapshot may cross elsewhere."""
        more = {"read": "", "answered": self._answered, "private": self._crossing.stays}
        return self._conversation.snapshot() | more

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot. What an embedded model had read along it reads again."""
        self._conversation.restore(state)
        self._read, self._answered = "", state["answered"]
        self._crossing.restore(self._conversation.past, kept=state.get("private", False))

    def remembered(self) -> dict[str, Any]:
        """What was said so far, and the question under way."""
        return self._under_way.remembered(self._conversation.past) | {"private": self._crossing.stays}

    def recall(self, state: dict[str, Any]) -> None:
        """Go on with a conversation of another machine. Raises pydantic's ValidationError."""
        found = self._under_way.recall(state)
        self._conversation.past = found.exchanges()
        self._crossing.restore(found.everything(), kept=found.private)

    async def process(self, packet: Packet, ctx: Context) -> None:
        """Answer a final transcript; draft an answer to a trial; read along with a partial one."""
        transcript = packet.payload
        assert isinstance(transcript, Transcript)
        if not transcript.final and self._crossing.refuses(transcript):
            return
        if transcript.trial and self._drafts and not ctx.lent:
            await self._draft(transcript, packet.epoch, ctx)
        elif not transcript.final:
            ahead = likely(transcript)
            self._model.connect_ahead(packet.epoch, self._conversation.messages(ahead))
            if self._prefill and len(ahead) > len(self._read):
                self._read = ahead
                await self._model.read_along(self._conversation.messages(ahead, told=transcript.told_chars))
        elif packet.epoch == AMBIENT:
            raise StageError("a final transcript of no turn is not answered: give it an `epoch`, from 1, a turn each")
        elif packet.epoch != self._answered:
            self._read = ""
            await self._answer(transcript, packet.epoch, ctx)
        if packet.epoch == self._answered and self._prefill and await nothing_follows(ctx):
            await self._model.read_along(
                self._conversation.messages("")
            )  # once the oldest turns are forgotten, nothing of the conversation is cached

    async def go_on(self, packet: Packet, sent: Sequence[Payload], over: bool, ctx: Context) -> None:
        """Say the rest of an answer that was begun elsewhere; of one that is over remember what was said."""
        transcript = packet.payload
        assert isinstance(transcript, Transcript)
        if not transcript.final or packet.epoch == self._answered:
            return
        self._answered, self._read = packet.epoch, ""
        tokens = [payload for payload in sent if isinstance(payload, Token)]
        said = "".join(token.text for token in tokens)
        if not over and not any(token.last for token in tokens):
            await self._ask(transcript, packet.epoch, ctx, said)
        elif said:
            self._conversation.remember(packet.epoch, transcript.text, said)
            self._crossing.hear(transcript.text, said)

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """Remember no more of an answer than was heard of it, and nothing of one that was not heard at all."""
        if self._pool is not None and isinstance(signal, Ahead | Played) and signal.epoch == self._answered:
            ahead_ns = signal.ahead_ns if isinstance(signal, Ahead) else 0
            self._pool.heard(ahead_ns / 1e6)
        if isinstance(signal, Played):
            self._crossing.hear(signal.text)
            self._under_way.over(signal.epoch)
        elif isinstance(signal, Interrupt):  # of an answer that was not heard at all there is no `Played`
            self._under_way.over(signal.epoch - 1)
        if isinstance(signal, Played) and not signal.complete:
            self._conversation.heard(signal.epoch, signal.text)

    def _messages(self, transcript: Transcript) -> list[Message]:
        """What the model is told, and shown where it can look at a picture."""
        picture = None
        if isinstance(transcript, Pictured) and self._model.backend.abilities.images:
            picture = Picture(transcript.picture, transcript.beside)
        return self._conversation.messages(transcript.text, picture, transcript.told_chars)

    async def _answer(self, transcript: Transcript, epoch: int, ctx: Context) -> None:
        question = transcript.text
        self._answered = epoch
        if not question.strip():
            ctx.emit(Token(text="", last=True), port="token")
            return
        if self._crossing.refuses(transcript):
            self._decline(LanguageModelError("words must stay here, and the model is elsewhere", ErrorKind.NOBODY), ctx)
            return
        self._pass_over(question)
        if (known := self._under_way.rest(question)) is not None:
            self._say_rest(question, epoch, *known, ctx)
            return
        await self._ask(transcript, epoch, ctx)

    def _pass_over(self, question: str) -> None:
        """Another question is put than the one that another machine has answered, which stays in the conversation."""
        if (before := self._under_way.passed_over(question)) is not None:
            self._conversation.remember(before.epoch, before.asked, before.said)

    async def _ask(self, transcript: Transcript, epoch: int, ctx: Context, said: str = "") -> None:
        """Let the model answer, or go on behind what was `said` of the answer elsewhere."""
        while True:
            reply = Reply(epoch=epoch, messages=self._messages(transcript))
            if said:
                reply.pieces, reply.seam = [said], Seam(said)
            if ctx.lent:  # it may have to be gone on with elsewhere
                reply.gate = WordGate()
            self._under_way.begun(reply)
            shortened = False
            try:
                await self._model.say(reply, ctx)
            except LanguageModelError as error:
                if error.kind is ErrorKind.NOBODY:
                    self._decline(error, ctx)
                    return
                too_long = error.kind is ErrorKind.TOO_LONG and reply.said == said
                if not (shortened := too_long and self._conversation.shorten()):
                    raise
                self.counts["turns_forgotten_early"] += 1
            finally:
                if not shortened:
                    self._remember(reply, ctx)
            if not shortened:
                return

    def _say_rest(self, question: str, epoch: int, said: str, rest: str, ctx: Context) -> None:
        """Say the rest of an answer that another machine has begun to say."""
        reply = Reply(epoch=epoch, messages=self._conversation.messages(question), pieces=[said], whole=True)
        self._under_way.begun(reply)
        ctx.emit(Token(text=rest), port="token")
        ctx.emit(Token(text="", last=True), port="token")
        self._conversation.remember(epoch, question, said)

    def _decline(self, error: LanguageModelError, ctx: Context) -> None:
        """No model may be asked, which is not a failure: tell the person so, and the operator why."""
        self.counts["turns_declined"] += 1
        log.error("%s", error)
        ctx.emit(Token(text=error.public), port="token")
        ctx.emit(Token(text="", last=True), port="token")

    async def _draft(self, transcript: Transcript, epoch: int, ctx: Context) -> None:
        """Begin an answer, and go on with it as the answer once the question turns out to be over."""
        self._pass_over(transcript.text)
        reply = Reply(epoch=epoch, messages=self._messages(transcript), state=ReplyState.DRAFT)
        problem: LanguageModelError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                verdict = group.create_task(self._await_verdict(reply, ctx))
                try:
                    await self._model.say(reply, ctx)
                except LanguageModelError as error:
                    problem = error
                else:
                    await asyncio.wait([verdict], timeout=_VERDICT_S)
                verdict.cancel()
        finally:
            self._remember(reply, ctx)
            hit = reply.state is ReplyState.ASKED
            self.counts["draft_hits" if hit else "draft_misses"] += 1
            self.counts["draft_tokens_wasted"] += 0 if hit else len(reply.pieces)
        if problem is not None and hit:
            if reply.said or problem.kind not in (ErrorKind.NOBODY, ErrorKind.TOO_LONG):
                raise problem
            await self._answer(transcript, epoch, ctx)

    async def _await_verdict(self, reply: Reply, ctx: Context) -> None:
        """What comes next decides: the same words in the same conversation, final, or anything else."""
        packet = await ctx.waiting()
        transcript = packet.payload
        assert isinstance(transcript, Transcript)
        messages = self._messages(transcript)
        same = packet.epoch == reply.epoch and same_question(messages, reply.messages)
        if transcript.final and same and not ctx.stale:
            reply.messages = messages
            self._answered, self._read = packet.epoch, ""
            self._under_way.begun(reply)
            reply.ask(ctx)
        else:
            reply.drop()

    def _remember(self, reply: Reply, ctx: Context) -> None:
        if self._pool is not None and self._pool.routed is not None and reply.state is ReplyState.ASKED:
            ctx.emit(self._pool.routed, port="route")
            self._pool.routed = None
        if reply.said and reply.state is ReplyState.ASKED:
            said = reply.said if reply.remembered is None else reply.remembered
            self._conversation.remember(reply.epoch, reply.asked, said)
            self._crossing.hear(reply.asked, said)
