"""A link that can be cut: bytes pass between a port of its own and another, until both sides are hung up on."""

from __future__ import annotations

import asyncio
import contextlib


class Link:
    """One way to an address. `cuts`: connections that were hung up on. Close it in the end."""

    def __init__(self, host: str, port: int) -> None:
        self.cuts = 0
        self._host = host
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> str:
        """Where it can be reached."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Abort all connections, also in the middle of a message; new ones are let through."""
        self.cuts += len(self._writers) // 2
        for writer in self._writers:
            writer.transport.abort()

    def close(self) -> None:
        """Close all connections and accept no more. Idempotent."""
        if self._server is not None:
            self._server.close()
        self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass(reader, there))
                group.create_task(_pass(there_reader, writer))
        finally:
            self._writers -= {writer, there}


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
