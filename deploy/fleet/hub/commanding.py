"""Commands to vehicles while nodes wait for them: in memory only, each given to its node once, or void."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from dataclasses import dataclass, field

from thalweg.deploy.fleet.errors import FleetError

MOST_WAITING = 4


@dataclass(eq=False, slots=True)
class _Given:
    data: bytes
    taken: asyncio.Event = field(default_factory=asyncio.Event)


class Commanding:
    """Of a hub that runs. On its loop."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, deque[_Given]] = defaultdict(deque)
        self._news: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def give(self, node: str, data: bytes, within_s: float) -> bool:
        """Whether the node has fetched it in time; else it is gone. Raises FleetError where too many wait."""
        waiting = self._waiting[node]
        if len(waiting) >= MOST_WAITING:
            raise FleetError(f"{MOST_WAITING} commands wait for {node} already")
        given = _Given(data)
        waiting.append(given)
        self._news[node].set()
        try:
            async with asyncio.timeout(within_s):
                await given.taken.wait()
        except TimeoutError:
            return False
        finally:
            if given in waiting:
                waiting.remove(given)
        return True

    async def next(self, node: str, within_s: float) -> bytes | None:
        """The next command for a node, none where there is none for so long."""
        try:
            async with asyncio.timeout(within_s):
                while not self._waiting[node]:
                    self._news[node].clear()
                    await self._news[node].wait()
        except TimeoutError:
            return None
        given = self._waiting[node].popleft()
        given.taken.set()
        return given.data
