"""Commands to vehicles while nodes wait for them: in memory only, each given to its node once, or void."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from thalweg.deploy.fleet.errors import FleetError

MOST_WAITING = 4


@dataclass(eq=False, slots=True)
class _Given:
    data: bytes
    taken: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, kw_only=True)
class AskedVideo:
    """The last request for video of a node. `fetched`: None while the node has time to fetch it."""

    id: str
    instance: str
    seconds: float
    asked_s: float = field(default_factory=time.monotonic)
    fetched: bool | None = None

    def state(self, instance: Any, outcomes: Mapping[str, tuple[bool, str]]) -> dict[str, Any]:
        """What is known of it. `instance`: of the agent that reports now; `outcomes`: id → done and why not, as nodes
        have told by events. `state`: asked, void, fetched, agreed, refused or ended; `left_s`: of what was agreed.
        """
        left_s = self.asked_s + self.seconds - time.monotonic()
        done, reason = outcomes.get(self.id, (None, ""))
        found = "asked" if self.fetched is None else "fetched" if self.fetched else "void"
        if done is not None:
            found = "agreed" if done else "refused"
        if found in ("fetched", "agreed") and (left_s <= 0 or instance != self.instance):
            found = "ended"
        return {"state": found, "reason": reason, "left_s": max(0, round(left_s))}


class Commanding:
    """Of a hub that runs. On its loop. `video`: by node."""

    def __init__(self) -> None:
        self.video: dict[str, AskedVideo] = {}
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
