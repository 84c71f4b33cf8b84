"""The sockets of a server: connections are accepted, counted, timed and sent away here, before aiohttp sees a byte.

asyncio's own servers accept every connection, log a line for each that finds no descriptor left, and wait indefinitely
for the rest of a header. Here the doorkeeper is asked first. A refusal closes the socket and costs some tens of
microseconds of the loop; after `REFUSALS` of them other tasks have their turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from aiohttp import web

from thalweg.deploy.door.addresses import trusted, who
from thalweg.deploy.door.doorkeeper import ConnectionPlace
from thalweg.deploy.door.front_door import FrontDoor
from thalweg.deploy.door.refused import dressed, of_http, refusal

log = logging.getLogger(__name__)

BACKLOG = 256
SWEEP_S = 0.5
REFUSALS = 50
PAUSE_S = 0.05
LINGER_S = 1.0
MOST = 1000
SHUTDOWN_S = 5.0
_RESET = b"\x01\x00\x00\x00\x00\x00\x00\x00"


def most_connections() -> int:
    """How many connections a server may hold that is told nothing else."""
    return min(MOST, _half_of_the_descriptors())


def _half_of_the_descriptors() -> int:
    """Of what this process may open: the rest is for what it does besides, such as writing down what came."""
    return max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


class Visitor(web.RequestHandler):
    """aiohttp's side of one connection, which tells the door when a request has come and when its answer has left."""

    __slots__ = ("_door", "_place")

    def __init__(self, door: Listener, place: ConnectionPlace, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._door = door
        self._place = place

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands, with TLS where there is TLS."""
        self._door.made(self._place, transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone."""
        self._door.lost(self._place)
        super().connection_lost(exc)

    async def _handle_request(self, *args: Any, **options: Any) -> Any:
        self._door.door.keeper.asked(self._place, self._door.door.now_s())
        try:
            return await super()._handle_request(*args, **options)
        finally:
            self._door.door.keeper.answered(self._place, self._door.door.now_s())

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What is no HTTP, before there is a route."""
        if status >= 500:
            self._door.door.say("http", f"a request could not be answered: {type(exc).__name__}", exc)
            response = refusal(status, "internal", "Something went wrong on this side. The server's log says what.")
        else:
            response = refusal(status, "http", "That is no HTTP request as this server reads them.")
        response.force_close()
        return response

    async def finish_response(self, request: Any, resp: Any, *rest: Any) -> Any:
        """Also what never passed the middleware leaves as everything else does."""
        if isinstance(resp, web.HTTPException):
            resp = of_http(resp)
        elif isinstance(resp, web.StreamResponse) and not resp.prepared:
            dressed(resp)
        return await super().finish_response(request, resp, *rest)


class Listener:
    """Accepts connections for an application until it is closed."""

    def __init__(self, door: FrontDoor, runner: web.AppRunner, context: ssl.SSLContext | None) -> None:
        self.door = door
        self._runner = runner
        self._context = context
        self._transports: dict[ConnectionPlace, asyncio.BaseTransport] = {}
        self._arriving: dict[ConnectionPlace, asyncio.Task[None]] = {}
        self._refused = 0

    async def run(self, listening: list[socket.socket]) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for one in listening:
                group.create_task(self._accept(one, group))
            while True:
                await asyncio.sleep(SWEEP_S)
                for place in self.door.keeper.overdue(self.door.now_s()):
                    self._send_away(place)

    def made(self, place: ConnectionPlace, transport: asyncio.BaseTransport) -> None:
        """The connection of a place stands."""
        self._arriving.pop(place, None)
        self._transports[place] = transport

    def lost(self, place: ConnectionPlace) -> None:
        """A connection is gone. Idempotent."""
        self._transports.pop(place, None)
        self.door.keeper.closes(place)

    async def _accept(self, listening: socket.socket, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(listening)
            except OSError as error:  # no descriptor left, or the client has gone
                self.door.say("accept", f"cannot accept connections: {error.strerror or error}")
                await asyncio.sleep(PAUSE_S)
                continue
            address = str(peer[0]) if isinstance(peer, tuple) else ""
            shared = trusted(address, self.door.settings.proxies)
            place, gone = self.door.keeper.connects(who(address), self.door.now_s(), shared=shared)
            if gone is not None:
                self._send_away(gone)
            if place is None:
                await self._refuse(connection)
            else:
                arriving = self._arriving[place] = group.create_task(self._serve(connection, place))
                arriving.add_done_callback(partial(self._arrived, connection, place))

    async def _refuse(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.close()
        self._refused += 1
        if self._refused % REFUSALS == 0:
            await asyncio.sleep(PAUSE_S)

    async def _serve(self, connection: socket.socket, place: ConnectionPlace) -> None:
        loop = asyncio.get_running_loop()
        server = self._runner.server
        assert server is not None
        limits = self.door.settings.limits

        def visitor() -> Visitor:
            return Visitor(
                self,
                place,
                server,
                loop=loop,
                keepalive_timeout=limits.header_s,
                lingering_time=LINGER_S,
                access_log=None,
                auto_decompress=False,
                logger=logging.getLogger("thalweg.http"),
            )

        tls: dict[str, Any] = {"ssl": self._context}
        if self._context is not None:
            tls |= {"ssl_handshake_timeout": limits.header_s, "ssl_shutdown_timeout": LINGER_S}
        try:
            await loop.connect_accepted_socket(visitor, connection, **tls)
        except Exception as error:  # no TLS, too slow at it, gone again
            self.door.keeper.counts["no_tls"] += 1
            log.debug("a connection came to nothing: %r", error)

    def _arrived(self, connection: socket.socket, place: ConnectionPlace, _: asyncio.Task[None]) -> None:
        """A connection stands, or has come to nothing, perhaps before anything was done for it."""
        self._arriving.pop(place, None)
        if place not in self._transports:
            connection.close()
            self.door.keeper.closes(place)

    def _send_away(self, place: ConnectionPlace) -> None:
        arriving = self._arriving.pop(place, None)
        if arriving is not None:
            arriving.cancel()
        transport = self._transports.pop(place, None)
        if isinstance(transport, asyncio.Transport):
            transport.abort()


@asynccontextmanager
async def listening(
    door: FrontDoor, application: web.Application, host: str, port: int, context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve while the block runs; gives the port, which is a free one for 0. Raises OSError where it cannot listen.

    `host`: an address, or `unix:PATH` in a folder that is this user's alone. Connections are also bounded by the
    available descriptors: without one left no client can be admitted, displaced or served.
    """
    door.keeper.limits = door.keeper.limits.within(_half_of_the_descriptors())
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    sockets: list[socket.socket] = []
    try:
        sockets += await _bound(host, port)
        failed: Exception | None = None
        async with asyncio.TaskGroup() as group:  # should accepting end by itself, so does the block
            accepting = group.create_task(Listener(door, runner, context).run(sockets), name="front door")
            try:
                at = sockets[0].getsockname()
                yield at[1] if isinstance(at, tuple) else 0
            except Exception as error:  # as it is, not as one of a group
                failed = error
            finally:
                accepting.cancel()
        if failed is not None:
            raise failed
    finally:
        for one in sockets:
            one.close()
        await runner.cleanup()


@contextmanager
def listening_apart(door: FrontDoor, application: web.Application, host: str, port: int) -> Iterator[int]:
    """The same on a loop and a thread of its own, so that its requests delay nothing else. Raises OSError."""
    started: Future[int] = Future()
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopping.set))
        async with listening(door, application, host, port) as found:
            started.set_result(found)
            await stopping.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if started.done():
                log.error("a server ended: %s", type(error).__name__)
            else:
                started.set_exception(error)

    thread = threading.Thread(target=run, name="front door", daemon=True)
    thread.start()
    try:
        yield started.result()
    finally:
        if started.exception() is None:
            stop[0]()
        thread.join()


async def _bound(host: str, port: int) -> list[socket.socket]:
    """A listening socket for each address of `host`, all at the same port; one at a path for `unix:PATH`."""
    if host.startswith("unix:"):
        return [_bound_at(host.removeprefix("unix:"))]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            chosen = sockets[0].getsockname()[1] if len(sockets) > 1 else port
            one.bind((address[0], chosen, *address[2:]))
            one.listen(BACKLOG)
            one.setblocking(False)
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets


def _bound_at(path: str) -> socket.socket:
    """A listening Unix socket for this user only. Replaces a stale one that has no listener."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        one.bind(path)
        os.chmod(path, 0o600)
        one.listen(BACKLOG)
        one.setblocking(False)
    except OSError:
        one.close()
        raise
    return one
