"""Where the stages of this node's pipelines hand in what is to reach the hub: a unix socket, the owner's alone.

Messages and answers: `pipeline.fleet.agent_socket`. Events that arrive together share one sync of the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgpack

from thalweg.deploy.fleet.errors import FleetError
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.agent_socket import COMMANDS, LENGTH, RATE, STATE, VIDEO
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.transports.fleet.segment import LARGEST_PAYLOAD
from thalweg.transports.fleet.spool import Spool
from thalweg.transports.packing import unpack

SOCKET: Final = "intake.sock"
LARGEST = LARGEST_PAYLOAD + 4096
PIECE = 1 << 16
COMMAND_S = 5.0


class Intake:
    """Listens while it is open. `stored`: called after each batch. `said`: takes what is known of the vehicle.
    `command`: waits for the next command of a stream, for some seconds. `rate`: says how much media may be produced,
    bit/s.
    """

    def __init__(
        self,
        spool: Spool,
        stored: Callable[[], None],
        said: Callable[[dict[str, Any]], None],
        command: Callable[[float, str], Awaitable[str]],
        rate: Callable[[], int],
    ) -> None:
        self._rate = rate
        self._command = command
        self._spool = spool
        self._stored = stored
        self._said = said
        self._server: asyncio.Server | None = None
        self._sync = asyncio.Lock()

    async def start(self, path: Path) -> None:
        """Listen at a path, and replace a previous listener. Raises FleetError where the path is too long."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, path)
        except OSError as error:
            raise FleetError(
                f"cannot listen at {path}: {error.strerror or error}; use a folder with a shorter name"
            ) from None
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                answer = msgpack.packb(await self._read(reader, length))
                writer.write(LENGTH.pack(len(answer)) + answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # cancelled, as the agent ends: asyncio's streams would print it as an error
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, length: int) -> tuple[int, str]:
        """Read one message and return the answer. One that is too large is skipped; its sender may send the next."""
        if length <= LARGEST:
            return await self._take(await reader.readexactly(length))
        left = length
        while left:
            left -= len(await reader.readexactly(min(left, PIECE)))
        return -1, f"a message of {length / 1e6:.1f} MB: at most {LARGEST / 1e6:.1f} MB are taken"

    async def _take(self, body: bytes) -> tuple[int, str]:
        number = -1
        try:
            match unpack(body):
                case (int() as number, str(), str() as stream, int(), bytes() as payload) if stream == STATE:
                    state = unpack(payload)
                    if isinstance(state, dict):
                        self._said(state)
                    return number, ""
                case (int() as number, str(), str() as stream, int(), bytes()) if stream == RATE:
                    return number, str(self._rate())
                case (int() as number, str(), str() as stream, int(), bytes()) if stream in (COMMANDS, VIDEO):
                    return number, await self._command(COMMAND_S, stream)
                case (int() as number, str() as kind, str() as stream, int() as time_ns, bytes() as payload):
                    if stream.startswith("~"):
                        return number, f"stream {stream[:40]!r} has a name that is kept for the node itself"
                    await self._store(SpoolClass(kind), stream, payload, time_ns)
                    return number, ""
        except ThalwegError as error:
            return number, str(error)
        except Exception as error:  # msgpack may raise anything on garbage
            return number, f"that cannot be read: {type(error).__name__}"
        return number, "a list of number, class, stream, time and payload is expected"

    async def _store(self, kind: SpoolClass, stream: str, payload: bytes, time_ns: int) -> None:
        stored = self._spool.append(kind, stream, payload, time_ns)
        if kind is SpoolClass.EVENTS:
            async with self._sync:
                await asyncio.to_thread(self._spool.sync, kind, stored)
        self._stored()
