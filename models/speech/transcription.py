"""A recogniser behind an address that speaks OpenAI's `/audio/transcriptions`, or nearly: vLLM, Speaches, whisper.cpp.

What is sent is a form with a WAV file (RFC 7578); what comes back is JSON, plain text, or events while it is made:
OpenAI's `transcript.text.delta` and `transcript.text.done`, or pieces like those of a chat, as vLLM sends them.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError
from thalweg.models.http import Address, HttpAnswer, HttpClient, HttpError, HttpErrorKind, key_for, quoted
from thalweg.models.language.chunk import words_of
from thalweg.models.speech.wav import write_wav

RATE = 16_000
MOST_CHARACTERS = 64 * 1024
_BUSY = (429, 502, 503, 504)
_WAIT_S = 0.5


class TranscriptionServer:
    """Asks one server, `retries` times more where it is not there or too busy. `open` first, `close` in the end.

    `key_env`: as in `http.keys`; `timeout_s`: for an answer and each piece of it. Raises ModelError.
    """

    def __init__(self, url: str, *, key_env: str | None = None, timeout_s: float = 20.0, retries: int = 1) -> None:
        self._address = Address.parse(url)
        self._key_env, self._timeout_s, self._retries = key_env, timeout_s, retries
        self._client: HttpClient | None = None

    @property
    def name(self) -> str:
        """It and its address."""
        return f"the recogniser at {self._address}"

    async def open(self) -> None:
        """Check address, key and proxy; nothing is asked yet."""
        key = key_for(self._address, self._key_env, os.environ)
        make = lambda: HttpClient(self._address, key=key, read_s=self._timeout_s)  # noqa: E731
        self._client = await asyncio.to_thread(make)  # certificates take 30 ms the first time

    async def close(self) -> None:
        """Hang up. Idempotent."""
        if self._client is not None:
            await self._client.close()

    async def transcribe(self, samples: NDArray[np.float32], fields: Mapping[str, str]) -> AsyncGenerator[str, None]:
        """What is said in `samples` [time] at 16 kHz: all of it so far each time more comes, the last one is final.

        `fields`: what is asked besides, as `model` and `language`.
        """
        body, kind = form(wav(samples), fields)
        left = self._retries
        while True:
            begun = False
            try:
                async with aclosing(self._once(body, kind)) as texts:
                    async for text in texts:
                        begun = True
                        yield text
                return
            except (HttpError, _Refusal) as error:
                lost = isinstance(error, HttpError) and error.kind is HttpErrorKind.UNREACHABLE
                again = lost or (isinstance(error, _Refusal) and error.status in _BUSY)
                if begun or left <= 0 or not again:
                    raise ModelError(f"{self.name} {error}") from None
                left -= 1
            await asyncio.sleep(_WAIT_S)

    async def _once(self, body: bytes, kind: str) -> AsyncGenerator[str, None]:
        assert self._client is not None, "open() comes first"
        async with self._client.post("audio/transcriptions", body, headers={"Content-Type": kind}) as answer:
            if answer.status != 200:
                raise _Refusal(answer.status, await _said(answer))
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                events = Events()
                async with aclosing(answer.chunks()) as chunks:
                    async for chunk in chunks:
                        if events.feed(chunk):
                            yield events.text
                        if events.done:
                            break
                if not events.done:
                    raise HttpError(HttpErrorKind.BROKE_OFF, "broke off: its events ended without the last one")
                yield events.text
                return
            yield _plain(await answer.text(MOST_CHARACTERS), answer.headers.get("content-type", ""))


class _Refusal(ModelError):
    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"refused with status {status}: {said}")
        self.status = status


class Events:
    """Events as they come, in pieces of any size. `text`: what was said so far; `done`: nothing more will be."""

    def __init__(self) -> None:
        self.text = ""
        self.done = False
        self._rest = b""

    def feed(self, data: bytes) -> bool:
        """Take a piece; whether `text` has grown. Raises HttpError on what are no such events."""
        before = self.text
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) + len(self.text) > MOST_CHARACTERS:
            raise HttpError(HttpErrorKind.NO_ANSWER, f"says more than {MOST_CHARACTERS} characters to one turn")
        for line in lines:
            if line.startswith(b"data:") and not self.done:
                self._take(line[5:].strip().decode("utf-8", "replace"))
        return self.text != before

    def _take(self, data: str) -> None:
        if data == "[DONE]":
            self.done = True
            return
        try:
            event = json.loads(data)
            kind = event.get("type", "")
            choices = event.get("choices") or ()
            more = "".join(str((choice.get("delta") or {}).get("content") or "") for choice in choices)
        except (ValueError, RecursionError, AttributeError, TypeError):
            raise HttpError(HttpErrorKind.NO_ANSWER, f"sends what is no event: {quoted(data, 80)}") from None
        if "error" in event or kind == "error":
            raise HttpError(HttpErrorKind.NO_ANSWER, f"broke off: {quoted(words_of(event) or data)}")
        if kind == "transcript.text.done":
            self.text, self.done = str(event.get("text", self.text)), True
        elif kind == "transcript.text.delta":
            self.text += str(event.get("delta", ""))
        self.text += more


def wav(samples: NDArray[np.float32]) -> bytes:
    """A WAV file, mono, 16 kHz, 16 bits."""
    held = io.BytesIO()
    write_wav(held, samples, RATE)
    return held.getvalue()


def form(file: bytes, fields: Mapping[str, str]) -> tuple[bytes, str]:
    """Body and content type of a form with `fields` and the file."""
    import httpx

    request = httpx.Request("POST", "http://form", data=dict(fields), files={"file": ("turn.wav", file, "audio/wav")})
    return request.read(), request.headers["content-type"]


def _plain(text: str, kind: str) -> str:
    if not kind.startswith("application/json") and not text.lstrip().startswith("{"):
        if kind.startswith("text/plain"):
            return text
        raise HttpError(HttpErrorKind.NO_ANSWER, f"answers with {quoted(kind or 'nothing', 40)}, not with a transcript")
    try:
        return str(json.loads(text)["text"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HttpError(HttpErrorKind.NO_ANSWER, f"answers without a text: {quoted(text, 80)}") from None


async def _said(answer: HttpAnswer) -> str:
    text = await answer.text()
    try:
        return words_of(json.loads(text)) or "nothing more"
    except (ValueError, RecursionError):
        return quoted(text) or "nothing more"
