"""A stage's connection to the agent of the node it runs on."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack

from thalweg.pipeline.fleet.agent_socket import LENGTH, NODE, NODE_FOLDER, STATE

ANSWER_S = 10.0
"""Timeout for an answer of a connected agent: a slow disk syncs for seconds, one that hangs never finishes."""


def machine_ns() -> int:
    """A time that all processes of this machine share. It goes on while the machine, or one of them, sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def node_folder() -> Path | None:
    """The folder of the node that this process runs on, by the environment in which its agent starts pipelines."""
    socket = os.environ.get(NODE, "")
    return Path(os.environ.get(NODE_FOLDER) or Path(socket).parent) if socket else None


class AgentLink:
    """One connection, made when it is needed, for one task at a time. `there`: whether this runs on a node."""

    def __init__(self) -> None:
        self._path = os.environ.get(NODE, "")
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._number = 0

    @property
    def there(self) -> bool:
        """See above."""
        return bool(self._path)

    async def hand_over(self, kind: str, stream: str, time_ns: int, payload: bytes, patience_s: float) -> str:
        """Why it was not stored, or nothing. An agent that is away is asked again for `patience_s`; one that does not
        answer is given up after `ANSWER_S`.
        """
        self._number += 1
        body = msgpack.packb([self._number, kind, stream, time_ns, payload])
        until_s = time.monotonic() + patience_s
        while True:
            try:
                async with asyncio.timeout(ANSWER_S):
                    answer = await self._ask(body)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.close()
                if time.monotonic() >= until_s:
                    return f"the node's agent is away: {getattr(error, 'strerror', None) or str(error) or 'no answer'}"
                await asyncio.sleep(0.2)
                continue
            return str(answer[1])

    async def tell(self, state: Mapping[str, Any], patience_s: float = 0.0) -> str:
        """How the vehicle is; why the agent was not told, or nothing."""
        return await self.hand_over("", STATE, 0, msgpack.packb(dict(state)), patience_s)

    def close(self) -> None:
        """Hang up. Idempotent."""
        if self._writer is not None:
            self._writer.close()
            self._reader = self._writer = None

    async def _ask(self, body: bytes) -> Any:
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_unix_connection(self._path)
        self._writer.write(LENGTH.pack(len(body)) + body)
        await self._writer.drain()
        (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
        return msgpack.unpackb(await self._reader.readexactly(length))
