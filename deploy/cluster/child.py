"""A worker in a process of its own: `python -m thalweg.deploy.cluster.child FD`, started by `subprocess_host.py`.

It talks with its parent over the inherited socket `FD`: MessagePack maps, each behind its length (u32). Requests
`{id, whose, call, args}` are answered `{id, result}` or `{id, error}`; problems, `{whose, problem}`, are told as they
happen. `whose` tells the runs apart that share the worker (`hosts.py`). When the parent says `end`, or is gone, so that
the socket ends, so does the process.
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

from thalweg.deploy.cluster.hosts import Hosts
from thalweg.deploy.errors import Problem, describe_error, told_of
from thalweg.stages.io.private import append_private
from thalweg.stages.io.terminal import begin, log_to_stderr

LENGTH = struct.Struct("<I")
DEBUGGED = "THALWEG_DEBUG"


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
        self._hosts = Hosts(self._tell)

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            calls: set[asyncio.Task[None]] = set()
            while True:
                try:
                    message = await read_message(self._reader)
                except (asyncio.IncompleteReadError, ConnectionError):
                    os._exit(1)  # the supervisor is gone, and what runs must not go on alone
                if message["call"] == "end":
                    await asyncio.gather(*map(self._hosts.close, self._hosts.names))
                    break
                task = group.create_task(self._answer(message))
                calls.add(task)
                task.add_done_callback(calls.discard)

    async def _answer(self, message: dict[str, Any]) -> None:
        try:
            answer: dict[str, Any] = {"result": await self._call(message["whose"], message["call"], message["args"])}
        except Exception as error:
            logging.getLogger(__name__).debug("call failed", exc_info=error)
            answer = {"error": told_of(error)}
        try:
            write_message(self._writer, {"id": message["id"], **answer})
        except (TypeError, ValueError, OverflowError) as error:  # nothing that is no plain value goes to the parent
            said = f"the answer to {message['call']} cannot be sent: {describe_error(error)}"
            write_message(self._writer, {"id": message["id"], "error": said})
        await self._writer.drain()

    async def _call(self, whose: str, name: str, args: list[Any]) -> Any:
        if name == "print_to":
            _print_to(*args)
            return None
        return await self._hosts.call(whose, name, args)

    def _tell(self, whose: str, problem: Problem) -> None:
        write_message(self._writer, {"whose": whose, "problem": asdict(problem)})


def _print_to(path: str) -> None:
    """From now on what is printed here is added to a file."""
    with append_private(Path(path)) as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())


async def main(fd: int) -> None:
    """Serve the parent until it says `end` or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent decides what an interrupt means
        signal.signal(number, signal.SIG_IGN)
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd))
    await _Service(reader, writer).serve()
    sys.stdout.flush()
    os._exit(0)


def debugging() -> dict[str, str]:
    """What the environment of a child has in addition where this process shows tracebacks: then it does, too."""
    return {DEBUGGED: "1"} if logging.getLogger("thalweg").isEnabledFor(logging.DEBUG) else {}


if __name__ == "__main__":
    begin()
    log_to_stderr(ours=logging.DEBUG if os.environ.get(DEBUGGED) else logging.INFO)
    asyncio.run(main(int(sys.argv[1])))
