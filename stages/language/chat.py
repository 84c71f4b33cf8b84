"""Asking a language model: embedded, behind any OpenAI-compatible address, or none at all.

    backend    answers with
    llamacpp   a model of the store, in this process
    openai     the server at `url`; without one, OpenAI's own
    echo       the question itself, word by word: for trying a pipeline out without a model

While somebody still speaks, the stable part of what was recognised so far is already given to an embedded
model, so that at the end of the turn only the last words are left to read before the first token comes. In a pause of
the voice, an answer is begun on trial (`reply.py`): nothing of it leaves this stage as tokens before the final
transcript has come, the very one that the draft answers; if another one comes, or more is said, the draft is dropped.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter, deque
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from thalweg.models.language.llama import LlamaServer
from thalweg.models.store.sharing import Share
from thalweg.models.store.store import ModelStore
from thalweg.pipeline.duration import MS, Duration, format_duration
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Draft, Token, Transcript
from thalweg.pipeline.signal import Played, Signal
from thalweg.pipeline.stage import Context, Port
from thalweg.stages.language.reply import Reply, ReplyState

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_PREFILL_S = 1.0
_VERDICT_S = 2.0
_AWAITED = 8


class LanguageModelError(ThalwegError):
    """A language model that refused, hung, broke off or answered something that is not an answer."""


@dataclass(slots=True)
class _Exchange:
    epoch: int
    asked: str
    said: str

    def messages(self) -> list[dict[str, str]]:
        return [{"role": "user", "content": self.asked}, {"role": "assistant", "content": self.said}]


class Chat:
    """Answers what was said, token by token, remembering the conversation.

    A turn that is interrupted stops at once; what was heard of the answer stays in the conversation, or what had been
    made of it where nobody says what was heard. Fails a turn, and only that, where the model does not answer.
    """

    inputs = {"transcript": Transcript}
    outputs = {"token": Token, "draft": Port(Draft, required=False)}

    def __init__(
        self,
        model: Annotated[str, Field(description="name in the model store, or at `url`")] = "smollm2-135m-instruct",
        backend: Annotated[
            Literal["llamacpp", "openai", "echo"] | None,
            Field(description="what answers; if left out: openai where there is a `url`, else llamacpp"),
        ] = None,
        url: Annotated[str, Field(description="base address of an OpenAI-compatible server, …/v1")] = "",
        api_key_env: Annotated[
            str, Field(description="environment variable that holds the key for `url`")
        ] = "OPENAI_API_KEY",
        system: Annotated[
            str, Field(description="what the model is told before the conversation")
        ] = "You are a helpful voice assistant. Answer in one or two short, plain sentences.",
        max_tokens: Annotated[int, Field(ge=1, description="longest reply, tokens")] = 96,
        temperature: Annotated[float, Field(ge=0, le=2, description="0 is always the most likely token")] = 0.0,
        history: Annotated[int, Field(ge=0, description="earlier turns the model is reminded of")] = 4,
        timeout: Annotated[Duration, Field(description="longest wait for the first and each further token")] = (
            10_000 * MS
        ),
        retries: Annotated[
            int, Field(ge=0, le=10, description="further attempts where a server is not there, too busy or broken")
        ] = 2,
        prefill: Annotated[
            bool | None, Field(description="read along while somebody speaks; if left out: when embedded")
        ] = None,
        draft: Annotated[
            bool | None,
            Field(description="begin an answer when the voice pauses, in case it is over; if left out: when embedded"),
        ] = None,
        threads: Annotated[
            int | None,
            Field(
                ge=1,
                description="of an embedded model; if left out: one fewer than processors, at most 4. They wait for "
                "each other by spinning: where other work runs too, one is many times faster than several",
            ),
        ] = None,
    ) -> None:
        self._model = model
        self._backend = backend or ("openai" if url else "llamacpp")
        self._url = url
        self._key_env = api_key_env
        self._system = {"role": "system", "content": system}
        self._max_tokens = max_tokens
        self._temperature = temperature
        self._timeout_ns = timeout
        self._retries = retries
        self._prefill = self._backend == "llamacpp" if prefill is None else prefill and self._backend != "echo"
        self._drafts = self._backend == "llamacpp" if draft is None else draft
        self.counts: Counter[str] = Counter()
        self._answered = AMBIENT
        self._past: deque[_Exchange] = deque(maxlen=history)
        self._heard: dict[int, str] = {}
        self._read = ""
        self._threads = threads
        self._server: Share[LlamaServer] | None = None
        self._client: AsyncOpenAI | None = None

    async def open(self, ctx: Context) -> None:
        """Load the model where it is embedded; otherwise nothing is asked before the first turn."""
        if self._backend == "echo":
            return
        if self._backend == "llamacpp":
            path = await ctx.compute(lambda: ModelStore().path(self._model))
            self._server = await ctx.compute(
                lambda: Share(
                    ("llama", path, self._threads),
                    lambda: LlamaServer(path, threads=self._threads),
                    LlamaServer.close,
                )
            )
            self._url = self._server.value.url
        self._client = await ctx.compute(self._connect, self._url)
        if self._prefill:
            await self._read_along("")

    async def close(self) -> None:
        """Hang up, and free the embedded model where nobody else uses it."""
        if self._client is not None:
            await self._client.close()
        if self._server is not None:
            self._server.release()

    def snapshot(self) -> dict[str, Any]:
        """The conversation so far."""
        return {"past": [asdict(exchange) for exchange in self._past], "heard": self._heard} | {
            "read": self._read,
            "answered": self._answered,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot. What an embedded model had read along it reads again when it is asked."""
        self._past.clear()
        self._past.extend(_Exchange(**exchange) for exchange in state["past"])
        self._heard, self._read, self._answered = state["heard"], state["read"], state["answered"]

    async def process(self, packet: Packet, ctx: Context) -> None:
        """Answer a final transcript; draft an answer to a trial; read along with a partial one."""
        transcript = packet.payload
        assert isinstance(transcript, Transcript)
        if transcript.trial and self._drafts:
            await self._draft(transcript.text, packet.epoch, ctx)
        elif not transcript.final:
            stable = transcript.text[: transcript.stable_chars]
            if self._prefill and len(stable) > len(self._read):
                self._read = stable
                await self._read_along(stable)
        elif packet.epoch != self._answered:
            self._read = ""
            await self._answer(transcript.text, packet.epoch, ctx)
        if packet.epoch == self._answered and self._prefill and ctx.peek("transcript") is None:
            await self._read_along("")  # once the oldest turn is forgotten, nothing of the conversation is cached

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """Remember no more of an answer than was heard of it, and nothing of one that was not heard at all."""
        if isinstance(signal, Played) and not signal.complete:
            self._heard[signal.epoch] = signal.text
            self._forget()

    async def _answer(self, question: str, epoch: int, ctx: Context) -> None:
        self._answered = epoch
        if not question.strip():
            ctx.emit(Token(text="", last=True), port="token")
            return
        reply = Reply(epoch=epoch, messages=self._messages(question))
        try:
            await self._generate(reply, ctx)
        finally:
            self._remember(reply)

    async def _draft(self, question: str, epoch: int, ctx: Context) -> None:
        """Begin an answer, and go on with it as the answer once the question turns out to be over."""
        reply = Reply(epoch=epoch, messages=self._messages(question), state=ReplyState.DRAFT)
        problem: LanguageModelError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                verdict = group.create_task(self._await_verdict(reply, ctx))
                try:
                    await self._generate(reply, ctx)
                except LanguageModelError as error:
                    problem = error
                else:
                    await asyncio.wait([verdict], timeout=_VERDICT_S)
                verdict.cancel()
        finally:
            self._remember(reply)
            hit = reply.state is ReplyState.ASKED
            self.counts["draft_hits" if hit else "draft_misses"] += 1
            self.counts["draft_tokens_wasted"] += 0 if hit else len(reply.pieces)
        if problem is not None and hit:
            raise problem

    async def _await_verdict(self, reply: Reply, ctx: Context) -> None:
        """What comes next decides: the same question in the same conversation, final, or anything else."""
        packet = await ctx.waiting()
        transcript = packet.payload
        assert isinstance(transcript, Transcript)
        same = packet.epoch == reply.epoch and self._messages(transcript.text) == reply.messages
        if transcript.final and same and not ctx.stale:
            self._answered, self._read = packet.epoch, ""
            reply.ask(ctx)
        else:
            reply.drop()

    async def _generate(self, reply: Reply, ctx: Context) -> None:
        """Let the model say its reply, until it is dropped."""
        loop, wait_s = asyncio.get_running_loop(), self._timeout_ns / 1e9
        try:
            async with asyncio.timeout(wait_s) as reply.patience, aclosing(self._tokens(reply.messages)) as tokens:
                async for text in tokens:
                    if reply.state is ReplyState.DROPPED:
                        return
                    reply.patience.reschedule(loop.time() + wait_s)
                    reply.add(text, ctx)
        except TimeoutError:
            if reply.state is ReplyState.DROPPED:
                return
            raise LanguageModelError(
                f"{self._where} was silent for {format_duration(self._timeout_ns)}"
                f"{' in the middle of its answer' if reply.said else ''}: raise `timeout` or look at the server"
            ) from None
        finally:
            reply.patience = None
        if not reply.said:
            raise LanguageModelError(f"{self._where} gave an empty answer")
        reply.end(ctx)

    def _remember(self, reply: Reply) -> None:
        if reply.said and reply.state is ReplyState.ASKED:
            self._past.append(_Exchange(epoch=reply.epoch, asked=reply.question, said=reply.said))
            self._forget()

    def _forget(self) -> None:
        for exchange in list(self._past):
            heard = self._heard.pop(exchange.epoch, None)
            if heard == "":
                self._past.remove(exchange)
            elif heard is not None:
                exchange.said = heard
        while len(self._heard) > _AWAITED:
            del self._heard[next(iter(self._heard))]

    async def _tokens(self, messages: list[dict[str, str]]) -> Any:  # Any: an async generator of str
        if self._backend == "echo":
            for word in re.findall(r"\S+\s*", messages[-1]["content"]):
                yield word
            return
        import openai

        finished = False
        try:
            async with await self._request(messages, self._max_tokens, self._retries) as stream:
                async for chunk in stream:
                    for choice in getattr(chunk, "choices", None) or ():
                        if choice.delta.content:
                            yield choice.delta.content
                        finished = finished or choice.finish_reason is not None
        except openai.APIStatusError as error:
            said = " ".join(str(error.message).split())[:200]
            raise LanguageModelError(f"{self._where} refused with status {error.status_code}: {said}") from None
        except openai.APITimeoutError:
            raise TimeoutError from None
        except openai.APIConnectionError as error:
            reason = error.__cause__ or error
            raise LanguageModelError(f"{self._where} cannot be reached: {reason}. Is the server running?") from None
        except (openai.APIError, ValueError) as error:
            raise LanguageModelError(f"{self._where} sent something that is not an answer: {error}") from None
        except Exception as error:
            if not _is_of_the_connection(error):
                raise
            raise LanguageModelError(f"{self._where} broke off: {error}") from None
        if not finished:
            raise LanguageModelError(f"{self._where} broke off in the middle of its answer")

    async def _read_along(self, text: str) -> None:
        """Let the model read the conversation so far. Costs one token; a failure shows when it is really asked."""
        import openai

        try:
            async with asyncio.timeout(_PREFILL_S):
                async with await self._request(self._messages(text), 1, retries=0) as stream:
                    async for _ in stream:
                        pass
        except (openai.APIError, TimeoutError, ValueError):
            return
        except Exception as error:
            if not _is_of_the_connection(error):
                raise

    def _messages(self, question: str) -> list[dict[str, str]]:
        past = (message for exchange in self._past for message in exchange.messages())
        return [self._system, *past, {"role": "user", "content": question}]

    async def _request(self, messages: list[dict[str, str]], max_tokens: int, retries: int) -> Any:  # Any: a stream
        assert self._client is not None
        client = self._client.with_options(max_retries=retries)
        told: Any = messages
        return await client.chat.completions.create(
            model=self._model, messages=told, max_tokens=max_tokens, temperature=self._temperature, stream=True
        )

    def _connect(self, url: str) -> AsyncOpenAI:
        try:
            from openai import AsyncOpenAI, DefaultAsyncHttpxClient
        except ImportError:
            raise LanguageModelError("the client is missing: pip install 'thalweg[language]'") from None
        key = os.environ.get(self._key_env) or "none"
        # without TLS there is nothing to verify, and the certificates are a megabyte and 30 ms for each conversation
        http = DefaultAsyncHttpxClient(verify=False) if url.startswith("http://") else None
        return AsyncOpenAI(base_url=url or None, api_key=key, timeout=self._timeout_ns / 1e9, http_client=http)

    @property
    def _where(self) -> str:
        return f"the language model at {self._url or 'api.openai.com'}"


def _is_of_the_connection(error: Exception) -> bool:
    """Whether it comes from below the client, which passes some errors of the connection on as they are."""
    return type(error).__module__.partition(".")[0] in ("httpx", "httpcore")
