"""Connecting ahead: a connection is made while a question is still being spoken, so that its greetings cost no time.

httpx opens a connection for a request and not before. So this stands below it, as its network: the connection that was
made ahead is handed out when the next one is wanted, with TLS already on it.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx


class Line:
    """How a client reaches its server: as httpx does by itself (`transport`), and a connection may be made ahead.

    `greets`: with `tls`. A connection is kept for `idle_s`, used or not.
    """

    def __init__(self, tls: ssl.SSLContext, greets: bool, idle_s: float) -> None:
        self._ahead = Ahead(tls if greets else None, idle_s)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=idle_s,
            network_backend=self._ahead,
        )
        self.transport = httpx.AsyncHTTPTransport(verify=tls)
        self.transport._pool = self._pool  # there is no parameter for it

    async def open(self, host: str, port: int, within_s: float) -> bool:
        """Connect, where there is no connection to use already. Raises httpcore's errors."""
        if any(each.is_idle() and not each.has_expired() for each in self._pool.connections):
            return False
        return await self._ahead.open(host, port, within_s)

    async def close(self) -> None:
        """Hang up what no question has used yet. Idempotent."""
        await self._ahead.close()


class Ahead(httpcore.AsyncNetworkBackend):
    """The network of one client, which has one connection ahead at most, and for `idle_s` at most.

    `tls`: what the client greets with; None: it does not.
    """

    def __init__(self, tls: ssl.SSLContext | None, idle_s: float) -> None:
        self._tls, self._idle_s = tls, idle_s
        self._network = httpcore.AnyIOBackend()
        self._opening = asyncio.Lock()
        self._ready: tuple[tuple[str, int], float, httpcore.AsyncNetworkStream] | None = None
        self._closed = False

    async def open(self, host: str, port: int, within_s: float) -> bool:
        """Connect and greet; no request is sent. False: there is one ahead already. Raises httpcore's errors."""
        async with self._opening:
            if await self._alive((host, port)):
                return False
            stream = await self._network.connect_tcp(host, port, timeout=within_s)
            if self._tls is not None:
                self._tls.set_alpn_protocols(["http/1.1"])
                stream = await stream.start_tls(self._tls, server_hostname=host, timeout=within_s)
            self._ready = (host, port), asyncio.get_running_loop().time(), stream
            if self._closed:
                await self._drop()
            return True

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's own signature, as below)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """The one that was made ahead, also one that is just being made, else a new one; all within `timeout`."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            async with asyncio.timeout(timeout), self._opening:
                if self._ready is not None and await self._alive((host, port)):
                    (_, _, stream), self._ready = self._ready, None
                    return stream if self._tls is None else _Greeted(stream)
        except TimeoutError:
            raise httpcore.ConnectTimeout from None
        left_s = None if timeout is None else max(1e-3, timeout - (loop.time() - began_s))
        return await self._network.connect_tcp(host, port, left_s, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._network.sleep(seconds)

    async def close(self) -> None:
        """Hang up what is ahead, also what is just being made. Idempotent."""
        self._closed = True
        await self._drop()

    async def _alive(self, where: tuple[str, int]) -> bool:
        """Whether what is ahead can be used; if it cannot, it is hung up."""
        if self._ready is None:
            return False
        whose, since_s, stream = self._ready
        if whose == where and asyncio.get_running_loop().time() - since_s < self._idle_s and not _hung_up(stream):
            return True
        await self._drop()
        return False

    async def _drop(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            await ready[2].aclose()


class _Greeted(httpcore.AsyncNetworkStream):
    """A connection with TLS on it, as the client takes it: to greet on."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        return self._stream

    async def aclose(self) -> None:
        await self._stream.aclose()


def _hung_up(stream: httpcore.AsyncNetworkStream) -> bool:
    """Whether the other side has, where the system can tell. That there is something to read says nothing: behind its
    greeting a server sends tickets for the next one.
    """
    socket = stream.get_extra_info("socket")
    if socket is None or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(socket.fileno(), getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))
