"""What a worker tells its supervisor while it runs: that it lives, its checkpoints, lost links, what is in hand.

The supervisor asks for one beat after the other. A beat is answered at once where there is something to tell, and
after `BEAT_S` at the latest; asking for the next one says that the last has arrived. Only then are the packets
acknowledged that a checkpoint covers: an acknowledged packet is never needed again, even if either side dies.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, TypedDict

from thalweg.deploy.errors import Problem, describe_error
from thalweg.deploy.runtime.checkpoint import Checkpoint, CheckpointJournal, take_checkpoint
from thalweg.deploy.runtime.watch import Watch
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.packet import AMBIENT

log = logging.getLogger(__name__)

BEAT_S = 0.5
CHECKPOINT_S = 0.1


class Beat(TypedDict):
    """`number`, `state`, `news`: of a new checkpoint, if there is one; see `Kept.take`. `progress`: packets were
    acknowledged since the last beat. `lost`: edge that has no link now → why. `in_hand`: see `Watch`, None where
    nothing changed.
    """

    number: int
    state: bytes | None
    news: bytes
    progress: bool
    lost: dict[str, str]
    in_hand: list[dict[str, Any]] | None


class Heartbeat:
    """The beats of one worker. `checkpoints`: whether it may ever be started again."""

    def __init__(self, worker: Worker, *, checkpoints: bool) -> None:
        self._worker = worker
        self._journal = CheckpointJournal(worker) if checkpoints else None
        self._news = asyncio.Event()
        self._watch: Watch | None = None
        self._lost: dict[str, str] = {}
        self._untold_loss = False
        self._number = 0
        self._latest: Checkpoint | None = None
        self._told = 0
        self._covered: tuple[int, int] = (0, 0)
        self._progress = False
        worker.on_link_lost = self._link_lost
        worker.on_link_found = lambda edge: self._lost.pop(edge, None)

    def watch(self) -> None:
        """From now on the worker says what it takes in hand before it does."""
        self._watch = self._worker.watch = Watch(self._news.set)

    async def beat(self, stored: int) -> Beat:
        """The next beat. `stored`: the number of the last checkpoint that is safe."""
        self._settle(stored)
        if self._watch is not None:
            self._watch.heard()
        loop = asyncio.get_running_loop()
        until = loop.time() + BEAT_S
        while not self._anything() and (left := until - loop.time()) > 0:
            self._news.clear()
            try:
                async with asyncio.timeout(min(left, CHECKPOINT_S)):
                    await self._news.wait()
            except TimeoutError:
                self._attempt()
        self._untold_loss = False
        progress, self._progress = self._progress, False
        new = self._latest if self._told < self._number else None
        self._told = self._number
        return {
            "number": self._number,
            "state": None if new is None else new.packed,
            "news": b"" if new is None else new.news,
            "progress": progress,
            "lost": dict(self._lost),
            "in_hand": None if self._watch is None else self._watch.tell(),
        }

    def _anything(self) -> bool:
        untold = self._watch is not None and self._watch.untold
        return bool(self._told < self._number or self._untold_loss or self._progress or untold)

    def _attempt(self) -> None:
        """Take a checkpoint, now or as soon as no stage is at work."""
        worker = self._worker
        taken = sum(inlet.taken for inlet in worker.inlets.values())
        units = sum(actor.units for actor in worker.actors.values())
        if self._journal is None or self._told < self._number or (taken, units) == self._covered:
            return
        try:
            checkpoint = take_checkpoint(worker, self._journal)
        except Exception as error:
            self._journal = worker.on_idle = None
            log.exception("a checkpoint of worker %s cannot be taken", worker.name)
            message = f"no checkpoint can be taken, so it would begin anew after a restart: {describe_error(error)}"
            now_ns = worker.clock.now_ns()
            worker.told.note(Problem(stage=worker.name, message=message, epoch=AMBIENT, time_ns=now_ns))
            return
        worker.on_idle = self._attempt if checkpoint is None else None
        if checkpoint is not None:
            self._covered = taken, units
            self._latest = checkpoint
            self._number += 1
            self._news.set()

    def _settle(self, stored: int) -> None:
        if self._latest is None or stored != self._number:
            return
        if self._journal is not None:
            self._journal.safe()
        for position in self._latest.positions:
            inlet = self._worker.inlets[position.edge]
            self._progress = self._progress or position.next_seq > inlet.settled
            inlet.acknowledge(position.link, position.taken, position.next_seq)

    def _link_lost(self, edge: str, reason: str) -> None:
        self._lost[edge] = reason
        self._untold_loss = True
        self._news.set()
