"""Connections that say nothing, or nothing that is an edge, leave nothing behind and keep nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_package
from tests.transports.edges import EDGE, TOKEN, Taker, number

require_package("grpc", "grpc")
require_package("cryptography", "grpc")

from tests.transports.grpc.listening import listening  # noqa: E402
from thalweg.transports.grpc import limits  # noqa: E402
from thalweg.transports.grpc.sender import GrpcSender  # noqa: E402
from thalweg.transports.grpc.wire import METHOD  # noqa: E402


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def settles(files: int) -> bool:
    """Whether no more than so many files are open within ten seconds."""
    for _ in range(200):
        if open_files() <= files:
            return True
        await asyncio.sleep(0.05)
    return False


def knock(port: int, times: int) -> None:
    """Connect and say nothing, one after the other."""
    for _ in range(times):
        socket.create_connection(("127.0.0.1", port)).close()


def test_ten_thousand_connections_and_thousands_at_once_leave_nothing_behind() -> None:
    at_once = min(2000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)

    async def main() -> tuple[list[int], bool, bool, int]:
        taker = Taker()
        async with listening(taker) as (_, port):
            files = open_files()
            await asyncio.to_thread(knock, port, 5000)  # gRPC keeps some memory for the next ones
            before = resident_bytes()
            await asyncio.to_thread(knock, port, 5000)
            all_closed = await settles(files)
            grown = resident_bytes() - before
            with contextlib.ExitStack() as held:
                for _ in range(at_once):
                    held.enter_context(socket.create_connection(("127.0.0.1", port)))
                sender = GrpcSender(f"127.0.0.1:{port}", EDGE, TOKEN)
                await sender.connected()
                sender.offer(number(1))
                await taker.has(1)
                sender.close()
            return taker.taken, all_closed, await settles(files + 2), grown

    taken, all_closed, all_let_go, grown = asyncio.run(main())
    assert taken == [1]
    assert all_closed and all_let_go
    assert grown < 5000 * 4096


@pytest.mark.parametrize("packed", [False, True])
def test_garbage_and_a_huge_message_do_a_listener_no_harm(packed: bool) -> None:
    import grpc

    async def main() -> tuple[list[int], str]:
        taker = Taker()
        async with listening(taker) as (_, port):
            for garbage in (
                b"\0" * 1000,
                b"GET / HTTP/1.1\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1000,
            ):
                with socket.create_connection(("127.0.0.1", port)) as peer, contextlib.suppress(OSError):
                    peer.sendall(garbage)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                bomb = grpc.Compression.Gzip if packed else grpc.Compression.NoCompression
                call: Any = channel.stream_stream(METHOD)(compression=bomb)  # type: ignore[call-arg]
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call.write(b"\0" * (limits.LARGEST_MESSAGE + 1000))
                code = (await call.code()).name
            sender = GrpcSender(f"127.0.0.1:{port}", EDGE, TOKEN)
            await sender.connected()
            sender.offer(number(1))
            await taker.has(1)
            sender.close()
        return taker.taken, code

    assert asyncio.run(main()) == ([1], "RESOURCE_EXHAUSTED")
