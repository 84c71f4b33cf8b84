"""Lending workers to nodes: TLS with their certificates, a process for each lease, and bytes between the two.

Theory of operation. A node connects, shows its working certificate, and is admitted by what the hub last said, as long
as the hub says so. Strangers cost a connection until the handshake is over, of which there are few at a time. The
process that is started for it talks with it from then on; here frames are only passed on, so that a stage that hangs or
dies takes nothing else with it. Any byte from the node renews a lease, and its pings come several times a second: after
`LEASE_S` without a byte it ends, and its process with it. So nothing is left of a node that is gone, and a lender that
is gone costs a node nothing but the worker.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from thalweg.deploy.door.addresses import who
from thalweg.deploy.door.doorkeeper import ConnectionPlace, Doorkeeper, DoorLimits
from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.lending.process import Program, lend, refuse
from thalweg.deploy.runtime.tasks import beside

log = logging.getLogger(__name__)

HANDSHAKE_S = 5.0
ARRIVING, ARRIVING_OF_AN_ADDRESS = 64, 16
"""Connections that are not a lease yet; one more takes the place of the one that waits longest (`doorkeeper.py`)."""
PAUSE_S = 0.05
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
    """Lends at most `workers` processes at a time. `worker`: what each runs; see `process.py`. `place`: its working
    directory.
    """

    def __init__(self, files: LenderFiles, admits: Admits, workers: int, place: Path, worker: Program) -> None:
        self._files = files
        self._admits = admits
        self._workers = workers
        self._place = place
        self._worker = worker
        self._leases: dict[asyncio.Task[None], tuple[str, str, int]] = {}
        self._keeper = Doorkeeper(DoorLimits(connections=ARRIVING, per_address=ARRIVING_OF_AN_ADDRESS))
        self._arriving: dict[ConnectionPlace, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def lent(self) -> dict[str, int]:
        """Node → how many workers it has."""
        return dict(Counter(name for name, _, _ in self._leases.values()))

    @property
    def free(self) -> int:
        """Workers that can be lent."""
        return self._workers - len(self._leases)

    def review(self) -> None:
        """End the leases of those that are admitted no more."""
        for task, shown in self._leases.items():
            if wrong := self._admits(*shown):
                log.warning("the worker of %s is taken back: %s", shown[0], wrong)
                task.cancel()

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Lend while the block runs; the port. Raises OSError where it cannot listen."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family, backlog=256) as listening:
            listening.setblocking(False)
            try:
                async with beside(self._accept(listening, self._files.context())):
                    yield int(listening.getsockname()[1])
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, listening: socket.socket, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(listening)
            except OSError as error:  # no descriptor left, or the client has gone
                log.debug("cannot accept a connection: %s", error.strerror)
                await asyncio.sleep(PAUSE_S)
                continue
            place, displaced = self._keeper.connects(who(str(peer[0])), loop.time())
            if displaced is not None:
                self._arriving[displaced].cancel()
            if place is None:
                connection.close()
                await asyncio.sleep(0)
                continue
            task = self._arriving[place] = loop.create_task(self._serve(connection, place, context))
            self._tasks.add(task)
            task.add_done_callback(partial(self._gone, connection, place))

    async def _serve(self, connection: socket.socket, place: ConnectionPlace, context: ssl.SSLContext) -> None:
        """One connection, to its end."""
        task = asyncio.current_task()
        assert task is not None
        with suppress(OSError, asyncio.CancelledError), ExitStack() as stack:
            reader, writer = await _secured(connection, context)
            stack.callback(writer.transport.abort)
            shown = writer.get_extra_info("peercert")
            node = (*certs.names_of(shown["subject"]), int(shown["serialNumber"], 16))
            if wrong := self._wrong_with(*node):
                log.warning("%s is lent no worker: %s", node[0] or "an unnamed node", wrong)
                await refuse(reader, writer, wrong)
                return
            self._leases[task] = node
            self._arrived(place)
            log.info("a worker is lent to %s, %d of %d are free", node[0], self.free, self._workers)
            try:
                await lend(reader, writer, self._worker, self._place)
            finally:
                del self._leases[task]
                log.info("the worker of %s is back, %d of %d are free", node[0], self.free, self._workers)

    def _gone(self, connection: socket.socket, place: ConnectionPlace, task: asyncio.Task[None]) -> None:
        connection.close()
        self._arrived(place)
        self._tasks.discard(task)

    def _arrived(self, place: ConnectionPlace) -> None:
        """It is a lease, or nothing. Idempotent."""
        self._keeper.closes(place)
        self._arriving.pop(place, None)

    def _wrong_with(self, name: str, kind: str, serial: int) -> str:
        """Why the holder of this certificate gets no worker; empty where it gets one."""
        if wrong := self._admits(name, kind, serial):
            return wrong
        if self.free <= 0:
            return f"all {self._workers} workers are lent"
        if self.lent.get(name, 0) >= LEASES_OF_A_NODE:
            return f"{name} has {LEASES_OF_A_NODE} workers already"
        return ""


async def _secured(
    connection: socket.socket, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The connection with TLS on it. Raises OSError."""
    loop = asyncio.get_running_loop()
    # asyncio does so only for sockets that say they are TCP, which accepted ones do not: an answer behind a pong waited
    # for that to be acknowledged, a round trip
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(
        lambda: protocol, connection, ssl=context, ssl_handshake_timeout=HANDSHAKE_S
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
