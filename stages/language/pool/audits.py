"""Audits of the cascade: what the dearer backend would have said to a question that the cheaper one answered alone.

Of a share of such answers, in idle time: some time behind an answer, when no backend is on trial, until somebody speaks
again. Only the question is sent, and only its first sentence is listened to. What comes of it is counted, and decides
nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from thalweg.models.language.backend import BackendError, Request, Text
from thalweg.pipeline.handoff.agreement import agree, first_sentence
from thalweg.stages.language.pool.member import AtWork, end, listen

IDLE_S = 2.0
LEAVE_S = 0.25


class Audits:
    """Of one pool. `may`: whether one may be asked now, which is paid for then; `blame`: it failed.

    Its task is the only one; it ends with the audit, when somebody speaks, and when the pool closes.
    """

    def __init__(
        self,
        share: float,
        within_s: float,
        may: Callable[[AtWork], bool],
        blame: Callable[[AtWork, BackendError | TimeoutError], None],
        counts: Counter[str],
    ) -> None:
        self._share, self._within_s, self._may, self._blame, self._counts = share, within_s, may, blame, counts
        self._owed = 0.0
        self._task: asyncio.Task[None] | None = None

    def begin(self, member: AtWork, request: Request, given: str, idle: Callable[[], Awaitable[None]]) -> None:
        """One that costs less has given an answer alone: ask `member`, where it is its turn, once all is `idle`."""
        if member.said.alone or any(message.picture is not None for message in request.messages):
            return
        self._owed += self._share
        if self._owed >= 1 - 1e-9 and (self._task is None or self._task.done()):
            self._owed -= 1
            audit = self._audit(member, request, given, idle)
            self._task = asyncio.get_running_loop().create_task(audit, name="auditing an answer")

    async def leave(self) -> None:
        """End what is under way. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            await end([task], LEAVE_S)

    async def _audit(self, member: AtWork, request: Request, given: str, idle: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(IDLE_S)
        await idle()
        breaker = member.breaker
        if not breaker.allows(asyncio.get_running_loop().time() * 1e3) or breaker.half_open or not self._may(member):
            return
        breaker.tries()
        said = ""
        try:
            async with asyncio.timeout(self._within_s), aclosing(listen(member, request, trial=True)) as deltas:
                async for delta in deltas:
                    said += delta.text if isinstance(delta, Text) else ""
                    if len(first_sentence(said)) < len(said.strip()):
                        break
            breaker.answered()
            if said.strip():
                apart = not agree(request.messages[-1].text, given, said)
                self._counts[f"audited_{member.name}"] += 1
                self._counts[f"disagreed_{member.name}"] += apart
        except (BackendError, TimeoutError) as error:
            self._blame(member, error)
        finally:
            breaker.let_go()
