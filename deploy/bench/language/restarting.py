"""For comparison: an ordered list of model servers, of which the next one answers anew where one fails, as LiveKit's
`FallbackAdapter` does with `retry_on_chunk_sent`; without that, it raises in mid-answer as a single server does. An
attempt may be silent for 5 s, LiveKit's default; pings count as signs of life there, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from thalweg.models.language.backend import Abilities, Backend, BackendError, Delta, ErrorKind, Request
from thalweg.models.language.openai_backend import OpenAIBackend

ATTEMPT_S = 5.0


class Restarting:
    """A backend of `language.chat` by `module:Class`."""

    abilities = Abilities()

    def __init__(self, model: str, urls: list[str], attempt_s: float = ATTEMPT_S) -> None:
        self._servers: list[Backend] = [OpenAIBackend(model, url, retries=0) for url in urls]
        self._attempt_s = attempt_s

    @classmethod
    def over(cls, backends: list[Backend]) -> Restarting:
        """The same over backends that are there."""
        restarting = cls("", [])
        restarting._servers = backends
        return restarting

    @property
    def name(self) -> str:
        """For the operator."""
        return "the ordered list of servers"

    async def open(self) -> None:
        """Open all."""
        await asyncio.gather(*(server.open() for server in self._servers))

    async def close(self) -> None:
        """Close all."""
        await asyncio.gather(*(server.close() for server in self._servers))

    async def prefill(self, request: Request) -> None:
        """Does nothing."""

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Answer with the first; where it fails, from the beginning with the next."""
        problem = BackendError(ErrorKind.UNREACHABLE, "there is no server")
        for server in self._servers:
            try:
                async with aclosing(server.reply(request)) as deltas:
                    while True:
                        async with asyncio.timeout(self._attempt_s):
                            delta = await anext(deltas, None)
                        if delta is None:
                            return
                        yield delta
            except BackendError as error:
                problem = error
            except TimeoutError:
                problem = BackendError(ErrorKind.SILENT, f"was silent for {self._attempt_s:g} s")
        raise problem
