"""Lending workers to nodes: TLS with their certificates, a process for each lease, and bytes between the two.

Theory of operation. A node connects, shows its working certificate, and is admitted by what the hub last said. The
process that is started for it talks with it from then on; here frames are only passed on, so that a stage that hangs or
dies takes nothing else with it. A lease is renewed by whatever the node sends, and its pings come several times a
second: after `LEASE_S` without a byte it ends, and its process with it. So nothing is left of a node that is gone, and
a lender that is gone costs a node nothing but the worker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from thalweg.deploy.fleet import certificates as certs
from thalweg.models.child_process import module_path, python_module
from thalweg.transports.fleet.lease import LEASE_S, frame

log = logging.getLogger(__name__)

HANDSHAKE_S = 5.0
PIECE = 1 << 16
LEASES_OF_A_NODE = 4

Admits = Callable[[str, str, int], str]
"""Name, kind and serial number of a certificate → why it may not borrow, or nothing."""


@dataclass(frozen=True, slots=True)
class LenderFiles:
    """PEM files: the hub's authority, and this lender's certificate with its key."""

    authority: Path
    lender: Path

    def context(self) -> ssl.SSLContext:
        """TLS both ways."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.authority)
        context.load_cert_chain(self.lender)
        return context


class Lender:
    """Lends at most `workers` processes at a time. `place`: the working directory of each; see `worker.py`."""

    def __init__(self, files: LenderFiles, admits: Admits, workers: int, place: Path) -> None:
        self._files = files
        self._admits = admits
        self._workers = workers
        self._place = place
        self._leases: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def lent(self) -> dict[str, int]:
        """Node → how many workers it has."""
        return {name: count for name, count in self._leases.items() if count}

    @property
    def free(self) -> int:
        """Workers that can be lent."""
        return self._workers - self._leases.total()

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Lend while the block runs; the port. Raises OSError where it cannot listen."""
        server = await asyncio.start_server(
            self._accepted, host, port, ssl=self._files.context(), ssl_handshake_timeout=HANDSHAKE_S
        )
        try:
            yield int(server.sockets[0].getsockname()[1])
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown = writer.get_extra_info("peercert")
        name, kind = certs.names_of(shown["subject"])
        wrong = self._admits(name, kind, int(shown["serialNumber"], 16))
        if not wrong and self.free <= 0:
            wrong = f"all {self._workers} workers are lent"
        if not wrong and self._leases[name] >= LEASES_OF_A_NODE:
            wrong = f"{name} has {LEASES_OF_A_NODE} workers already"
        if wrong:
            log.warning("%s is lent no worker: %s", name or "somebody", wrong)
            writer.write(frame("refused", wrong))
            await writer.drain()
            return
        self._leases[name] += 1
        log.info("a worker is lent to %s, %d of %d are free", name, self.free, self._workers)
        try:
            await self._lend(reader, writer)
        finally:
            self._leases[name] -= 1
            log.info("the worker of %s is back, %d of %d are free", name, self.free, self._workers)

    async def _lend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A process, and bytes both ways until one of the two is gone."""
        ours, theirs = socket.socketpair()
        async with AsyncExitStack() as stack:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *python_module("thalweg.deploy.fleet.lending.worker", str(theirs.fileno())),
                    pass_fds=[theirs.fileno()],
                    cwd=self._place,
                    env=os.environ | module_path(),
                    start_new_session=True,
                )
            stack.push_async_callback(_end, process)
            child_reader, child_writer = await asyncio.open_connection(sock=ours)
            stack.callback(child_writer.close)
            ways = [
                asyncio.create_task(_pass_on(reader, child_writer, LEASE_S)),
                asyncio.create_task(_pass_on(child_reader, writer, None)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience_s: float | None) -> None:
    """Until the one end is gone, or says nothing for so long."""
    with suppress(ConnectionError, TimeoutError, ssl.SSLError):
        while True:
            async with asyncio.timeout(patience_s):
                piece = await reader.read(PIECE)
                if not piece:
                    return
                writer.write(piece)
                await writer.drain()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    await process.wait()
