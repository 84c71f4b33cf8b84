"""A worker in a process of its own: `python -m thalweg.deploy.cluster.child FD`, started by `subprocesses.py`.

It talks with its parent over the inherited socket `FD`: MessagePack maps, each behind its length (u32). Requests
`{id, call, args}` are answered `{id, result}` or `{id, error}`; problems are told as they happen. When the parent is
gone the socket ends, and so does the process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import struct
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgpack

from thalweg.deploy.cluster.host import Bundle, Host
from thalweg.deploy.errors import describe_error
from thalweg.pipeline.errors import ThalwegError
from thalweg.stages.io.private import append_private
from thalweg.stages.io.terminal import begin, log_to_stderr

LENGTH = struct.Struct("<I")


async def read_message(reader: asyncio.StreamReader) -> Any:  # Any: MessagePack
    """The next message. Raises IncompleteReadError at the end."""
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    return msgpack.unpackb(await reader.readexactly(length), strict_map_key=False)


def write_message(writer: asyncio.StreamWriter, message: Any) -> None:  # Any: MessagePack
    """Send a message."""
    packed = msgpack.packb(message)
    writer.write(LENGTH.pack(len(packed)) + packed)


class _Service:
    """Answers the parent's calls."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._host: Host | None = None

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            calls: set[asyncio.Task[None]] = set()
            while True:
                try:
                    message = await read_message(self._reader)
                except (asyncio.IncompleteReadError, ConnectionError):
                    os._exit(1)  # the supervisor is gone, and what runs must not go on alone
                if message["call"] == "leave":
                    await self._close()
                    break
                task = group.create_task(self._answer(message))
                calls.add(task)
                task.add_done_callback(calls.discard)

    async def _close(self) -> None:
        try:
            if self._host is not None:
                await self._host.close()
        except Exception:
            logging.getLogger(__name__).warning("it did not close", exc_info=True)

    async def _answer(self, message: dict[str, Any]) -> None:
        try:
            answer: dict[str, Any] = {"result": await self._call(message["call"], message["args"])}
        except Exception as error:
            ours = isinstance(error, ThalwegError) or type(error).__module__.startswith("thalweg.")
            logging.getLogger(__name__).debug("call failed", exc_info=error)
            answer = {"error": str(error) if ours else describe_error(error)}
        try:
            write_message(self._writer, {"id": message["id"], **answer})
        except (TypeError, ValueError, OverflowError) as error:  # nothing that is no plain value goes to the parent
            said = f"the answer to {message['call']} cannot be sent: {describe_error(error)}"
            write_message(self._writer, {"id": message["id"], "error": said})
        await self._writer.drain()

    async def _call(self, name: str, args: list[Any]) -> Any:
        if name == "make":
            worker, bundle, log = args
            if log is not None:
                _print_to(log)
            self._host = Host.of_bundle(worker, Bundle(**bundle), self._tell)
            return None
        assert self._host is not None
        if name == "run":
            return (await self._host.run()).plain()
        called = getattr(self._host, name)(*args)
        return await called if asyncio.iscoroutine(called) else called

    def _tell(self, problem: Any) -> None:
        write_message(self._writer, {"problem": asdict(problem)})


def _print_to(path: str) -> None:
    """From now on what is printed here is added to a file."""
    with append_private(Path(path)) as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())


async def main(fd: int) -> None:
    """Serve the parent until it says `leave` or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent decides what an interrupt means
        signal.signal(number, signal.SIG_IGN)
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd))
    await _Service(reader, writer).serve()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    begin()
    log_to_stderr()
    asyncio.run(main(int(sys.argv[1])))
