"""Backends on trial between two turns: one that may be back, or fast again, is asked for one token.

The task that does so belongs to `Trials`, which has one at most. It ends when all have been tried, when the next turn
begins, and when the pool closes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing

from thalweg.models.language.backend import BackendError, ErrorKind, Message, Request
from thalweg.stages.language.pool.audits import Audits
from thalweg.stages.language.pool.member import AtWork, end, listen

TRIED_WITH = Message("user", "And?")
"""Stands behind the conversation on trial: behind a whole answer of its own a model says nothing."""
LEAVE_S = 0.25
"""Longest wait for a trial that was cancelled: a person waits for an answer."""


class Trials:
    """See above. `within_s`: longest wait for each; `may`: asked of each in its turn, for what others have cost, with
    what it would be counted as. `audited`: the share of answers of which there are `audits` (`audits.py`).
    """

    def __init__(
        self, within_s: float, may: Callable[[AtWork, str], bool], audited: float, counts: Counter[str]
    ) -> None:
        self._within_s, self._may = within_s, may
        self.audits = Audits(audited, within_s, lambda member: may(member, ""), blame, counts)
        self._task: asyncio.Task[None] | None = None

    def begin(self, members: Sequence[AtWork], question: Request) -> None:
        """Ask each, one after the other, beside what else happens. Does nothing while others are being tried."""
        if members and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._try(members, question), name="probing backends")

    def audit(self, member: AtWork, request: Request, given: str) -> None:
        """Ask a dearer one, when all else is done, what it would have said; of a share of such answers."""
        self.audits.begin(member, request, given, self._over)

    async def _over(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])

    async def leave(self) -> None:
        """End what is under way; one that does not let itself be cancelled is left behind. Idempotent."""
        await self.audits.leave()
        task, self._task = self._task, None
        if task is not None:
            await end([task], LEAVE_S)

    async def _try(self, members: Sequence[AtWork], question: Request) -> None:
        for member in members:
            if not self._may(member, "probed"):
                continue
            member.breaker.tries()
            try:
                async with asyncio.timeout(self._within_s), aclosing(listen(member, question, trial=True)) as deltas:
                    async for _ in deltas:
                        pass
                member.breaker.answered()
            except (BackendError, TimeoutError) as error:
                blame(member, error)
            finally:
                member.breaker.let_go()


def blame(member: AtWork, error: BackendError | TimeoutError) -> None:
    """It failed when it was asked between turns."""
    reason = str(error) or "it did not answer when it was tried"
    if isinstance(error, BackendError) and error.kind is ErrorKind.SETTINGS:
        member.misconfigured(reason)
    else:
        after_s = error.retry_after_s if isinstance(error, BackendError) else None
        after_ms = None if after_s is None else after_s * 1e3
        member.breaker.failed(asyncio.get_running_loop().time() * 1e3, reason, after_ms)
