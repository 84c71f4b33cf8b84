"""Connections are made while somebody begins to speak, so that the question need not wait for their greetings.

Once a turn, and to those that are likely to be asked and may be: what is private binds connections, too. Nothing is
asked, and a connection that is there is left as it is. One that cannot be made is counted, and no more: that is no
failure of a question, so that it opens no breaker; the question finds out by itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from thalweg.models.language.backend import Backend, Message, Request, Warms
from thalweg.stages.language.pool.member import CLOSE_S, end

WITHIN_S = 10.0


class Warming:
    """Of one conversation. Its task is the only one, and ends with `close`."""

    def __init__(self, backend: Backend, counts: Counter[str]) -> None:
        self._backend, self._counts = backend, counts
        self._turn = -1
        self._task: asyncio.Task[None] | None = None

    def begin(self, turn: int, messages: Sequence[Message]) -> None:
        """Somebody speaks: connect, beside what else happens, unless that has begun for this turn or is under way."""
        if turn == self._turn or not isinstance(self._backend, Warms) or (self._task and not self._task.done()):
            return
        self._turn = turn
        connecting = warm({"": self._backend}, Request(messages=messages, max_tokens=1), self._counts)
        self._task = asyncio.get_running_loop().create_task(connecting, name="connecting ahead")

    async def close(self) -> None:
        """End what is under way. Idempotent."""
        if self._task is not None:
            await end([self._task], CLOSE_S)


async def warm(backends: Mapping[str, Backend], request: Request, counts: Counter[str]) -> None:
    """Let these connect, at once. Counted are connections made and those that could not be, by the names given."""

    async def one(name: str, backend: Warms) -> None:
        try:
            async with asyncio.timeout(WITHIN_S):
                made = await backend.warm(request)
        except Exception:
            counts[f"unwarmed{name}"] += 1
        else:
            counts.update([f"warmed{name}"] if made else [])

    await asyncio.gather(*(one(name, backend) for name, backend in backends.items() if isinstance(backend, Warms)))
