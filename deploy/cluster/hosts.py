"""The hosts in a process that was started for them: one, or one for each of the runs that share the worker.

Runs are told apart by a name that the owner of each makes up, `whose`. Each has a host of its own: its own stages,
links, epochs and checkpoints. What they share is what stages of one process share, models above all
(`models.store.sharing`). The event loop is one, too: a stage that computes long in place, though it does not say
`blocking`, holds up all of them.

event                                                    next
`make`                                                   there is a host, and everything else may be called
`make`, and there are as many as it says there may be    True; nothing is made
`leave`, or nothing came from its owner for so long      its sources end, what is under way is given up, it is closed
that it must be gone (`expired`)
anything else, asked of a host that is not there         WorkerLost
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from thalweg.deploy.cluster.host import Bundle, Host, load_bundle
from thalweg.deploy.cluster.remote import WorkerLost
from thalweg.deploy.ops.observing.outcome import Problem
from thalweg.pipeline.file.spec import Spec

log = logging.getLogger(__name__)


class Hosts:
    """`tell`: given each problem, with whose it is."""

    def __init__(self, tell: Callable[[str, Problem], None]) -> None:
        self._tell = tell
        self._hosts: dict[str, Host] = {}
        self._heard_s: dict[str, float] = {}
        self._read: tuple[dict[str, Any], Spec] | None = None

    @property
    def names(self) -> list[str]:
        """Whose hosts are here."""
        return list(self._hosts)

    async def call(self, whose: str, name: str, args: Sequence[Any]) -> Any:
        """Call a method of a host with plain values; returns plain values. Raises WorkerLost, and as the host does."""
        if name == "ping":
            self._heard(whose)
            return None
        if name == "leave":
            await self.close(whose)
            return None
        if name == "make":
            return self._make(whose, *args)
        host = self._hosts.get(whose)
        if host is None:
            raise WorkerLost("the worker has no host for this run, or no more")
        self._heard(whose)
        if name == "run":
            return (await host.run()).plain()
        result = getattr(host, name)(*args)
        return await result if asyncio.iscoroutine(result) else result

    def _heard(self, whose: str) -> None:
        """Its owner is there."""
        if whose in self._hosts:
            self._heard_s[whose] = asyncio.get_running_loop().time()

    async def close(self, whose: str) -> None:
        """Close a host, if it is there, and forget it."""
        host = self._hosts.pop(whose, None)
        self._heard_s.pop(whose, None)
        if host is None:
            return
        try:
            await host.close()
        except Exception:
            log.warning("a host did not close", exc_info=True)

    def expired(self, silent_s: float) -> list[str]:
        """Whose hosts have owners that must be gone: they said nothing for so long, not even `ping`."""
        now_s = asyncio.get_running_loop().time()
        return [whose for whose in self._hosts if now_s - self._heard_s[whose] > silent_s]

    def _make(self, whose: str, worker: str, plain: dict[str, Any], most: int = 0) -> bool:
        """A host from a bundle; whether there are `most` already (0: as many as come), so that there is none. The file
        is read once for all runs of it. Raises as `load_bundle`, StartError.
        """
        if most and len(self._hosts) >= most:
            return True
        bundle = Bundle(**plain)
        file = plain | {"token": ""}
        if self._read is None or self._read[0] != file:
            self._read = file, load_bundle(bundle)
        tell = partial(self._tell, whose)
        self._hosts[whose] = Host(worker, self._read[1], tell, token=bundle.token, traced=bundle.traced)
        self._heard(whose)
        return False
