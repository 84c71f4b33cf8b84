"""The process of a lease, and the bytes between it and the node, of which nothing is read here.

What is started gets the other end of a socket pair as its first argument, and is the leader of a process group of its
own, which ends with the lease.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from thalweg.deploy.runtime.tasks import beside
from thalweg.models.child_process import module_path, python_module, without_secrets
from thalweg.models.http.keys import bound_variables
from thalweg.stages.io.terminal import begin, log_to_stderr
from thalweg.transports.fleet.lease import LEASE_S, frame

log = logging.getLogger(__name__)

LINGER_S = 1.0
PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Program:
    """A module of ours to be run, with what follows the number of its socket.

    `secrets`: variables with secrets that it needs; it gets no others, since the node says what it does.
    """

    module: str
    arguments: tuple[str, ...]
    secrets: frozenset[str] = frozenset()


def worker_here(memory_bytes: int) -> Program:
    """A lent worker on this machine, which may allocate so much, as may each process that it starts; −1: no limit.

    Of keys it has those that `THALWEG_KEYS` binds: a node may name any address to it. Raises HttpError.
    """
    return Program("thalweg.deploy.fleet.lending.worker", (str(memory_bytes),), bound_variables(os.environ))


def be_lent(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
    """The other side of `lend`: `serve` the node until it is gone, and leave no thread or process of its own behind."""
    begin()
    log_to_stderr()
    for number in (signal.SIGINT, signal.SIGTERM):  # the lender decides what an interrupt means
        signal.signal(number, signal.SIG_IGN)

    async def to_its_end() -> None:
        try:
            await serve(*await asyncio.open_connection(sock=socket.socket(fileno=int(sys.argv[1]))))
        finally:
            if os.getpgrp() == os.getpid():
                os.killpg(0, signal.SIGKILL)
            os._exit(0)

    asyncio.run(to_its_end())


async def lend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, program: Program, folder: Path) -> None:
    """Run it in `folder` and pass bytes both ways until one of the two is gone, or the node silent for `LEASE_S`."""
    ours, theirs = socket.socketpair()
    async with AsyncExitStack() as stack:
        stack.callback(ours.close)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *python_module(program.module, str(theirs.fileno()), *program.arguments),
                    pass_fds=[theirs.fileno()],
                    cwd=folder,
                    env=without_secrets(os.environ, program.secrets) | module_path(),
                    start_new_session=True,
                )
            except OSError as error:
                log.error("a worker cannot be started: %s", error)
                await refuse(reader, writer, f"it cannot start a worker: {error.strerror}")
                return
        stack.push_async_callback(end, process)
        child_reader, child_writer = await asyncio.open_connection(sock=ours)
        stack.callback(child_writer.close)
        await pass_both_ways((reader, writer), (child_reader, child_writer), LEASE_S)


async def pass_both_ways(
    node: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    worker: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    patience_s: float | None,
) -> None:
    """Until the one end is gone, or the node says nothing for so long."""
    async with (
        beside(_pass_on(node[0], worker[1], patience_s)) as there,
        beside(_pass_on(worker[0], node[1], None)) as back,
    ):
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, why: str) -> None:
    """Say so, and wait until the other end has hung up: closed with something unread, it might not be heard."""
    writer.write(frame("refused", why[:1000]))
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(LINGER_S):
            await writer.drain()
            while await reader.read(PIECE):
                pass


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience_s: float | None) -> None:
    with suppress(ConnectionError, TimeoutError, ssl.SSLError):
        while True:
            async with asyncio.timeout(patience_s):
                piece = await reader.read(PIECE)
                if not piece:
                    return
                writer.write(piece)
                await writer.drain()


async def end(process: asyncio.subprocess.Process) -> None:
    """With all that it has started, which goes by its name though it may be gone itself."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
