"""What hears the stages of a node in place of its agent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack

from thalweg.pipeline.fleet.agent_socket import LENGTH, RATE, VIDEO


@contextlib.asynccontextmanager
async def agent_at(path: Path, *asked: str) -> AsyncIterator[asyncio.Queue[Any]]:
    """Answers that everything is stored, and that 123 kbit/s are left; gives (stream, what is in it). `asked`: what it
    says that the hub asks of video, one after the other.
    """
    requests = list(asked)
    told: asyncio.Queue[Any] = asyncio.Queue()

    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                number, _, stream, _, payload = msgpack.unpackb(await reader.readexactly(length))
                if stream == VIDEO:
                    await asyncio.sleep(0.02)
                    answer = msgpack.packb([number, requests.pop(0) if requests else ""])
                    writer.write(LENGTH.pack(len(answer)) + answer)
                    continue
                if stream != RATE:
                    told.put_nowait((stream, msgpack.unpackb(payload)))
                answer = msgpack.packb([number, "123000" if stream == RATE else ""])
                writer.write(LENGTH.pack(len(answer)) + answer)
        writer.close()
        with contextlib.suppress(ConnectionError):  # it hangs up while it is answered
            await writer.wait_closed()

    async with await asyncio.start_unix_server(serve, path):
        yield told
    async with asyncio.timeout(5):
        await asyncio.gather(*(task for task in serving if task is not None))
