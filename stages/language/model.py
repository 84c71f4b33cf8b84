"""One backend at work for `language.chat`: asked with patience, heard through the filters, its failures in words."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import get_args

from thalweg.models.http.errors import quoted
from thalweg.models.language.answer import AnswerFilter, may_think_unmarked
from thalweg.models.language.backend import (
    Backend,
    BackendError,
    Delta,
    ErrorKind,
    Finish,
    Message,
    Reason,
    Request,
    Text,
    without_pictures,
)
from thalweg.pipeline.duration import format_duration
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.handoff.seam import is_sentence
from thalweg.pipeline.stage import Context
from thalweg.stages.language.patience import Patience
from thalweg.stages.language.pool.member import continued
from thalweg.stages.language.pool.warming import Warming
from thalweg.stages.language.repetition import Repetition, without_circles
from thalweg.stages.language.reply import Reply, ReplyState

_PREFILL_S = 1.0
_SYNTHESIS_S = 0.3
_DELTAS = ", ".join(delta.__name__ for delta in get_args(Delta))
_COUNTED = {Reason.CUT: "answers_cut", Reason.FILTER: "answers_filtered", Reason.LENGTH: "answers_at_length"}


class LanguageModelError(ThalwegError):
    """A language model that refused, hung, broke off or answered something that is not an answer."""

    def __init__(self, message: str, kind: ErrorKind = ErrorKind.NO_ANSWER) -> None:
        super().__init__(message)
        self.kind = kind
        self.public = BackendError(kind, message).public


class Model:
    """Says replies with `backend`. `counts`: what is counted of them, kept by the caller.

    Learns whether its thoughts begin without a mark: known of some by their names, of others after the first time.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        called: str,
        max_tokens: int,
        temperature: float,
        timeout_ns: int,
        counts: Counter[str],
    ) -> None:
        self.backend = backend
        self._max_tokens, self._temperature, self._timeout_ns = max_tokens, temperature, timeout_ns
        self._unmarked = may_think_unmarked(called)
        self._counts = counts
        self._warming = Warming(backend, counts)

    async def open(self) -> None:
        """Get ready. Raises LanguageModelError, with everything closed again."""
        try:
            await self.backend.open()
        except BaseException as error:
            await self.backend.close()
            if isinstance(error, BackendError):
                raise self._failed(error) from None
            raise

    async def close(self) -> None:
        """Hang up and free. Idempotent."""
        await self._warming.close()
        await self.backend.close()

    def connect_ahead(self, turn: int, messages: Sequence[Message]) -> None:
        """Somebody begins to speak: let connections be made. Does not wait for them."""
        self._warming.begin(turn, messages)

    async def read_along(self, messages: Sequence[Message], within_s: float = _PREFILL_S) -> None:
        """Let it read the conversation so far, for a second at most unless there is more time; a failure shows when it
        is really asked."""
        try:
            async with asyncio.timeout(within_s):
                await self.backend.prefill(self._request(messages, 1))
        except Exception:
            self._counts["read_along_failed"] += 1

    async def say(self, reply: Reply, ctx: Context) -> None:
        """Let it say `reply`, or the rest of one that has begun, until that is dropped. Raises LanguageModelError."""
        loop = asyncio.get_running_loop()
        patience = Patience(self._timeout_ns, _now_ns(loop))
        answer = AnswerFilter(self._max_tokens, unmarked=self._unmarked, begun=is_sentence(reply.said))
        repetition = Repetition()
        try:
            async with (
                asyncio.timeout_at(patience.until_ns / 1e9) as reply.patience,
                aclosing(self._told(reply, answer)) as deltas,
            ):
                async for delta in deltas:
                    if reply.state is ReplyState.DROPPED:
                        return
                    patience.heard(delta, _now_ns(loop))
                    reply.patience.reschedule(patience.until_ns / 1e9)
                    for text in self._texts(answer, delta):
                        reply.add(text, ctx)
                        if repetition.feed(text):
                            reply.remembered = without_circles(reply.said)
                            self._counts["answers_repeating"] += 1
                            break
                    if answer.over or repetition.found:
                        break
        except TimeoutError:
            if reply.state is ReplyState.DROPPED:
                return
            raise self._silence(reply, patience, _now_ns(loop)) from None
        except BackendError as error:
            raise self._failed(error) from None
        finally:
            reply.patience = None
            self._learn(answer)
        reply.end(ctx)

    def _texts(self, answer: AnswerFilter, delta: Delta) -> Iterator[str]:
        for told in answer.feed(delta):
            if isinstance(told, Text):
                yield told.text
            elif isinstance(told, Finish) and told.reason in _COUNTED:
                self._counts[_COUNTED[told.reason]] += 1

    async def _told(self, reply: Reply, answer: AnswerFilter) -> AsyncGenerator[Delta, None]:
        """What the backend says, and no end without a `Finish`."""
        request = self._request(reply.messages, self._max_tokens)
        if reply.state is ReplyState.DRAFT:
            request = replace(request, trial=True, accepted=lambda: reply.state is ReplyState.ASKED)
        if reply.said:
            request = continued(request, reply.said, self.backend.abilities)
        async with aclosing(self.backend.reply(request)) as deltas:
            try:
                async for delta in deltas:
                    if not isinstance(delta, Delta):
                        raise TypeError(f"`reply` gave {type(delta).__name__}, expected one of {_DELTAS}")
                    yield delta
            except (BackendError, asyncio.CancelledError):
                raise
            except Exception as error:
                what = f"failed: {type(error).__name__}: {quoted(error)}"
                raise BackendError(ErrorKind.NO_ANSWER, what) from error
        if not answer.over:
            raise BackendError(ErrorKind.BROKE_OFF, "broke off: its reply ended without a `Finish`")

    def _learn(self, answer: AnswerFilter) -> None:
        if answer.stray:
            self._unmarked = True
        elif answer.over and not answer.thought:
            self._unmarked = False

    def _request(self, messages: Sequence[Message], max_tokens: int) -> Request:
        if not self.backend.abilities.images:
            messages = without_pictures(messages)
        return Request(messages=messages, max_tokens=max_tokens, temperature=self._temperature)

    def _failed(self, error: BackendError) -> LanguageModelError:
        failed = LanguageModelError(f"{self.backend.name} {error}", error.kind)
        failed.__cause__ = error.__cause__
        return failed

    def _silence(self, reply: Reply, patience: Patience, now_ns: int) -> LanguageModelError:
        what = "pinged and said nothing" if patience.pinged else "was silent"
        waited = patience.waited_ns(now_ns) if patience.pinged else self._timeout_ns
        where = " in the middle of its answer" if reply.said else ""
        return LanguageModelError(
            f"{self.backend.name} {what} for {format_duration(waited)}{where}: raise `timeout` or look at the server",
            ErrorKind.SILENT,
        )


async def nothing_follows(ctx: Context) -> bool:
    """Whether nothing comes for a while, in which the last sentence of an answer is mostly synthesised: that needs the
    processor. On a lent worker what comes is not known.
    """
    if not ctx.lent:
        with suppress(TimeoutError):
            async with asyncio.timeout(_SYNTHESIS_S):
                await ctx.waiting()
    return ctx.peek("transcript") is None


def _now_ns(loop: asyncio.AbstractEventLoop) -> int:
    return round(loop.time() * 1e9)
