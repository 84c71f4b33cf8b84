"""A model behind an address that speaks OpenAI's chat protocol, or nearly: vLLM, llama.cpp, Ollama, gateways, OpenAI.

The wire is read by `stream.py`. Here are the question in the words that this server takes, the retries, and its
refusals in words. Where a server refuses a parameter by name, it is asked again as it wants it, and so from then on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from email.utils import mktime_tz, parsedate_tz
from typing import Annotated, Literal

from pydantic import Field

from thalweg.models.http.address import Address
from thalweg.models.http.client import HttpAnswer, HttpClient
from thalweg.models.http.errors import HttpError, HttpErrorKind, quoted
from thalweg.models.http.keys import DEFAULT, key_for
from thalweg.models.language.asking import Asking
from thalweg.models.language.backend import Abilities, BackendError, Delta, ErrorKind, Finish, Progress, Request
from thalweg.models.language.chunk import kind_of, words_of
from thalweg.models.language.stream import StreamParser, without_tags

log = logging.getLogger(__name__)

OPENAI = "https://api.openai.com/v1"
_TRIED_AGAIN = (ErrorKind.UNREACHABLE, ErrorKind.BUSY)
_RETRY_AFTER_S = 10.0
_RETRY_AFTER_AT_MOST_S = 1e9
_FIGURES_S = 0.5
_KINDS = {
    HttpErrorKind.SETTINGS: ErrorKind.SETTINGS,
    HttpErrorKind.REDIRECTED: ErrorKind.SETTINGS,
    HttpErrorKind.UNREACHABLE: ErrorKind.UNREACHABLE,
    HttpErrorKind.BROKE_OFF: ErrorKind.BROKE_OFF,
    HttpErrorKind.NO_ANSWER: ErrorKind.NO_ANSWER,
}


class OpenAIBackend:
    """Asks the server at `url`. Follows no redirect, sends the key of `api_key_env` only where `http.keys` lets it."""

    def __init__(
        self,
        model: Annotated[str, Field(description="its name at `url`")],
        url: Annotated[str, Field(description="base address, …/v1; if left out, OpenAI's own")] = "",
        api_key_env: Annotated[
            str | None, Field(description="environment variable that holds the key for `url`")
        ] = None,
        retries: Annotated[int, Field(ge=0, le=10)] = 2,
        continues: Annotated[
            Literal["prefix", "instruct", "none"],
            Field(description="how a reply that has begun elsewhere is gone on with; see docs/writing-a-backend.md"),
        ] = "instruct",
        connect_s: Annotated[float, Field(gt=0, le=60, description="longest wait for a connection, s")] = 10.0,
        images: Annotated[bool, Field(description="the model can look at pictures: questions may bring one")] = False,
    ) -> None:
        try:
            self._address = Address.parse(url or OPENAI)
        except HttpError as error:
            raise BackendError(ErrorKind.SETTINGS, str(error)) from None
        self.abilities = Abilities(continues=continues, logprobs=True, images=images)
        self._model, self._key_env, self._retries = model, api_key_env, retries
        self._connect_s = connect_s
        self._own_key: str | None = None
        self._slot: int | None = None
        self._asking = Asking(continues)
        self._client: HttpClient | None = None
        self._keyed = False

    @classmethod
    def of_this_process(cls, model: str, url: str, key: str, retries: int, slot: int | None = None) -> OpenAIBackend:
        """For a server of our own on loopback, with the key that it was given; always in `slot`, if there is one."""
        backend = cls(model, url, retries=retries, continues="prefix")
        backend._own_key, backend._slot = key, slot
        return backend

    @property
    def name(self) -> str:
        """It and its address."""
        return f"the language model at {self._address}"

    async def open(self) -> None:
        """Check address, key and proxy; nothing is asked yet."""
        try:
            key = self._own_key or key_for(self._address, self._key_env, os.environ)
            # certificates are a megabyte and 30 ms the first time
            self._client = await asyncio.to_thread(
                lambda: HttpClient(self._address, key=key, connect_s=self._connect_s, read_s=None)
            )
        except HttpError as error:
            raise BackendError(ErrorKind.SETTINGS, _settings(error)) from None
        self._keyed = key is not None

    async def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            await self._client.close()

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Answer; ask again, `retries` times, where the server is not there or too busy and nothing was said yet."""
        left, waited_s = self._retries, 0.0
        while True:
            try:
                async with aclosing(self._once(request)) as deltas:
                    async for delta in deltas:
                        left = left if isinstance(delta, Progress) else 0
                        yield delta
                return
            except BackendError as error:
                if self._asking.adapts(error.status, str(error), pictured=_pictured(request)):
                    if self._asking.blind and _pictured(request):
                        log.warning("%s takes no pictures, and is sent none any more: %s", self.name, error)
                    continue
                wait_s = _wait_s(error, waited_s)
                if left <= 0 or error.kind not in _TRIED_AGAIN or wait_s > _RETRY_AFTER_S:
                    raise
                left -= 1
                waited_s = wait_s
            await asyncio.sleep(wait_s)

    async def prefill(self, request: Request) -> None:
        """Have it read: for servers that keep what they have read. Costs one token."""
        if self._client is None:
            return
        try:
            async with aclosing(self._once(request, answered=False)) as deltas:
                async for _ in deltas:
                    pass
        except BackendError:
            return

    async def warm(self, request: Request) -> bool:
        """Connect; nothing is asked."""
        if self._client is None:
            return False
        try:
            return await self._client.connect()
        except HttpError as error:
            raise BackendError(_KINDS[error.kind], _settings(error)) from None

    async def _once(self, request: Request, *, answered: bool = True) -> AsyncGenerator[Delta, None]:
        assert self._client is not None, "open() comes first"
        asked = self._asking.body(self._model, request)
        if not answered and self._own_key is not None:  # llama.cpp; the words that begin an answer come with the answer
            asked["add_generation_prompt"] = False
        if self._slot is not None:
            asked["id_slot"] = self._slot
        body = json.dumps(asked).encode()
        try:
            async with self._client.post("chat/completions", body, headers={"Accept": "text/event-stream"}) as answer:
                if answer.status != 200:
                    raise self._refusal(answer, await _words(answer))
                yield Progress("accepted")
                async with aclosing(self._read(answer)) as deltas:
                    async for delta in deltas:
                        yield delta
        except HttpError as error:
            raise BackendError(_KINDS[error.kind], _settings(error)) from None

    async def _read(self, answer: HttpAnswer) -> AsyncGenerator[Delta, None]:
        parser = StreamParser()
        async with aclosing(answer.chunks()) as chunks:
            while not parser.done:
                data = await (_figures(chunks) if parser.finished else anext(chunks, None))
                for delta in parser.end() if data is None else parser.feed(data):
                    yield delta
                    if isinstance(delta, Finish):
                        return

    def _refusal(self, answer: HttpAnswer, said: str) -> BackendError:
        status = answer.status
        hint = ""
        if status in (401, 403):
            name = self._key_env or DEFAULT
            hint = f" (the key in {name} was sent)" if self._keyed else f" (no key was sent: {self._no_key(name)})"
        return BackendError(
            kind_of(status, said),
            f"refused with status {status}: {quoted(said)}{hint}",
            status=status,
            retry_after_s=_retry_after_s(answer),
        )

    def _no_key(self, name: str) -> str:
        if not os.environ.get(name):
            return f"{name} is not set"
        return f"{name} is not for {self._address.host}; name a variable by `api_key_env`, or see docs/security.md"


def _pictured(request: Request) -> bool:
    return any(message.picture is not None for message in request.messages)


async def _figures(chunks: AsyncGenerator[bytes, None]) -> bytes | None:
    """What comes behind the last word: some servers send figures, and some leave the connection open."""
    try:
        async with asyncio.timeout(_FIGURES_S):
            return await anext(chunks, None)
    except TimeoutError:
        return None


async def _words(answer: HttpAnswer) -> str:
    """What a server says to its refusal: the words within the JSON, or as it is."""
    try:
        text = await answer.text()
    except HttpError:
        return "nothing more"
    try:
        return words_of(json.loads(text)) or "nothing more"
    except (ValueError, RecursionError):
        return quoted(without_tags(text)) or "nothing more"


def _settings(error: HttpError) -> str:
    return f"cannot be asked: {error}" if error.kind is HttpErrorKind.SETTINGS else _hinted(error)


def _hinted(error: HttpError) -> str:
    return f"{error}. Is the server running?" if error.kind is HttpErrorKind.UNREACHABLE else str(error)


def _wait_s(error: BackendError, before_s: float) -> float:
    """What the server asks for, or twice as long as before, with jitter so that not all clients come back at once."""
    if error.retry_after_s is not None:
        return error.retry_after_s
    return min(8.0, max(0.25, 2 * before_s)) * random.uniform(0.75, 1.25)


def _retry_after_s(answer: HttpAnswer) -> float | None:
    for header, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        said = answer.headers.get(header, "")
        try:
            seconds = float(said) / unit
        except ValueError:
            when = parsedate_tz(said)
            seconds = mktime_tz(when) - time.time() if when else -1.0
        if seconds >= 0:
            return min(seconds, _RETRY_AFTER_AT_MOST_S)
    return None
