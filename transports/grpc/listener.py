"""Where producers connect: who may come in, and to which receiver."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable
from typing import Any

from thalweg.pipeline.decoding import shown
from thalweg.pipeline.errors import ThalwegError
from thalweg.transports.codec import VERSION
from thalweg.transports.grpc import limits
from thalweg.transports.grpc.receiver import GrpcReceiver
from thalweg.transports.grpc.tls import Certificates
from thalweg.transports.grpc.wire import METHOD, Frame, Record, from_bytes
from thalweg.transports.link import TransportError


class GrpcListener:
    """Where producers on other hosts connect. Start it with `start`, which returns the port."""

    def __init__(
        self,
        token: str,
        accepted: Callable[[str, GrpcReceiver], None],
        certificates: Certificates | None,
        position: Callable[[str], tuple[int, int]] = lambda _: (0, 0),
    ) -> None:
        self._token = token
        self._position = position
        self._accepted = accepted
        self._certificates = certificates
        self._receivers: dict[str, GrpcReceiver] = {}
        self._windows: dict[str, int] = {}
        self._server: Any = None

    def expect(self, edge: str, window: int) -> None:
        """The producer of this edge may connect and have `window` packets under way."""
        self._windows[edge] = window

    async def start(self, address: str) -> int:
        """Listen at `host:port`, port 0 for any. Raises TransportError where that is taken or cannot be used."""
        import grpc

        self._server = grpc.aio.server(options=limits.OPTIONS, maximum_concurrent_rpcs=1024)
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve, request_deserializer=from_bytes, response_serializer=Frame.SerializeToString
        )
        service, method = METHOD.strip("/").split("/")
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        try:
            if self._certificates is None:
                port = self._server.add_insecure_port(address)
            else:
                certs = self._certificates
                pairs = [(certs.key, certs.certificate)]
                credentials = grpc.ssl_server_credentials(pairs, certs.authority, require_client_auth=True)
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            raise TransportError(f"cannot listen at {address}: it is taken, or not an address of this host") from None
        await self._server.start()
        return int(port)

    async def stop(self) -> None:
        """Close all connections."""
        for receiver in self._receivers.values():
            receiver.close()
        if self._server is not None:
            await self._server.stop(0.2)

    async def _serve(self, requests: AsyncIterator[Any], context: Any) -> None:
        import grpc

        try:
            async with asyncio.timeout(limits.GREETING_S):
                first = await anext(requests)
            receiver = self._greet(first)
        except (ThalwegError, TimeoutError, StopAsyncIteration) as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error) or "no greeting came")
            return
        connection = receiver.connected()
        next_seq, settled = self._position(first.hello.edge)
        welcome = {
            "window": receiver.window,
            "received": receiver.received,
            "next_seq": next_seq,
            "settled": settled,
        }
        await context.write(Frame(welcome=welcome))
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read(receiver, connection, requests))
            await receiver.tell(connection, context.write)
            reading.cancel()

    async def _read(self, receiver: GrpcReceiver, connection: int, requests: AsyncIterator[Any]) -> None:
        try:
            async for frame in requests:
                if connection != receiver.connection:
                    return
                receiver.accept(frame)
        except ThalwegError as error:
            receiver.on_lost(str(error))
            receiver.close()

    def _greet(self, frame: Any) -> GrpcReceiver:
        if isinstance(frame, Record) or frame.WhichOneof("kind") != "hello":
            raise TransportError("that was no greeting of Thalweg's")
        hello = frame.hello
        if hello.version != VERSION:
            raise TransportError(f"wire version {hello.version} meets wire version {VERSION}: install the same Thalweg")
        if not hmac.compare_digest(hello.token.encode(), self._token.encode()):
            raise TransportError("the token is wrong")
        receiver = self._receivers.get(hello.edge)
        if receiver is not None and receiver.session == hello.session:
            if receiver.over:
                raise TransportError(f"the consumer of edge {shown(hello.edge)} has hung up")
            return receiver
        if hello.edge not in self._windows:
            raise TransportError(f"no edge {shown(hello.edge)} is expected here")
        if receiver is not None and hello.generation <= receiver.generation:
            raise TransportError(f"edge {shown(hello.edge)} is connected already")
        receiver = self._receivers[hello.edge] = GrpcReceiver(self._windows[hello.edge])
        receiver.session = hello.session
        receiver.generation = hello.generation
        self._accepted(hello.edge, receiver)
        return receiver
