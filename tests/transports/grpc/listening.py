"""A listener that expects one edge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.transports.edges import EDGE, TOKEN, Taker
from thalweg.transports.grpc.listener import GrpcListener
from thalweg.transports.grpc.tls import Certificates


@asynccontextmanager
async def listening(
    taker: Taker, certificates: Certificates | None = None, window: int = 16
) -> AsyncIterator[tuple[GrpcListener, int]]:
    listener = GrpcListener(TOKEN, taker.accepted, certificates)
    listener.expect(EDGE, window)
    try:
        yield listener, await listener.start("127.0.0.1:0")
    finally:
        await listener.stop()
