"""Media that go to the hub only while it asks for them."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgpack

from thalweg.pipeline.fleet.agent_socket import VIDEO
from thalweg.pipeline.signal import Configure, Direction, by_stage
from thalweg.pipeline.stage import Context
from thalweg.stages.fleet.agent_link import AgentLink, machine_ns

log = logging.getLogger(__name__)

AWAY_S = 1.0
USUAL_S = 60.0
PATIENCE_S = 5.0


class Demand:
    """Whether the hub asks for media now. `rungs`: settings upstream while it does not, and while it does.

    Whether a request is to be believed the node's agent decides, as with commands to the vehicle. A newer one replaces
    the one before; 0 seconds end it. What is wanted is not written down: after a restart it is to be asked for again.
    """

    def __init__(self, rungs: Sequence[Mapping[str, Any]]) -> None:
        self._rungs = rungs
        self._until_ns = 0
        self._told: int | None = None
        self._agent = AgentLink()
        self._task: asyncio.Task[None] | None = None

    def start(self, ctx: Context) -> None:
        """Begin to listen."""
        self._task = asyncio.create_task(self._listen(ctx))

    async def close(self) -> None:
        """Idempotent."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._agent.close()

    def wanted(self, ctx: Context) -> bool:
        """Whether it asks; stages upstream are told as soon as that has changed."""
        rung = int(machine_ns() < self._until_ns)
        if rung != self._told:
            before = {} if self._told is None else self._rungs[self._told]
            changed = {name: value for name, value in self._rungs[rung].items() if before.get(name) != value}
            self._told = rung
            log.info("%s: the hub %s", ctx.name, "asks for media" if rung else "asks for no media")
            for stage, settings in by_stage(changed).items():
                ctx.signal(Configure(origin=ctx.name, stage=stage, settings=settings), Direction.UP)
        return bool(rung)

    async def _listen(self, ctx: Context) -> None:
        """For requests, again and again; the agent answers after seconds."""
        while True:
            said = await self._agent.hand_over("", VIDEO, 0, b"", 0.0)
            if said.startswith("{"):
                try:
                    await self._take(json.loads(said), ctx)
                except (ValueError, TypeError, KeyError) as error:  # of an agent of another version
                    ctx.report(f"a request for media cannot be read: {type(error).__name__}")
            elif said:  # the agent is away, or older than this
                await asyncio.sleep(AWAY_S)
            self.wanted(ctx)

    async def _take(self, asked: Mapping[str, Any], ctx: Context) -> None:
        now_ns = machine_ns()
        done = now_ns < asked["until_ns"]
        if done:
            self._until_ns = now_ns + round(float(asked["settings"].get("seconds", USUAL_S)) * 1e9)
        reason = "" if done else "it expired before the stage took it"
        outcome = {"id": asked["id"], "action": asked["action"], "done": done, "reason": reason}
        body = msgpack.packb({"payload": outcome})
        refusal = await self._agent.hand_over("events", f"{ctx.name}.outcome", time.time_ns(), body, PATIENCE_S)
        if refusal:
            ctx.report(f"{outcome}: {refusal}")
