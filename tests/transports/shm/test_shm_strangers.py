"""Who may not connect to a shared memory edge is told why; nobody does it harm; what cannot be had is said."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.transports.edges import EDGE, TOKEN, Taker, number
from thalweg.pipeline.text import printable
from thalweg.transports.codec import VERSION
from thalweg.transports.link import TransportError
from thalweg.transports.shm.listener import ShmListener
from thalweg.transports.shm.ring import RingError, RingReader, RingWriter
from thalweg.transports.shm.sender import connect

NAME = f"thalweg-strangers-{os.getpid()}"


@asynccontextmanager
async def listening(taker: Taker) -> AsyncIterator[ShmListener]:
    listener = ShmListener(NAME, TOKEN, taker.accepted)
    listener.expect(EDGE, 16)
    try:
        yield listener
    finally:
        listener.close()
        for link in taker.links:
            link.close()


@pytest.fixture(autouse=True)
def no_garbage() -> None:
    """What earlier tests left in cycles would otherwise let go of its descriptors while we count ours."""
    gc.collect()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def refusal(**wrong: Any) -> str:
    async with listening(Taker()):
        with pytest.raises(TransportError) as caught:
            await connect(NAME, wrong.pop("edge", EDGE), wrong.pop("token", TOKEN), **wrong)
    return str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"token": "guess"}, "the token is wrong"),
        ({"edge": "x -> y"}, "no edge 'x -> y' is expected here"),
        ({"generation": -1}, f"edge '{EDGE}' is connected already"),
    ],
)
def test_who_may_not_come_in_is_told_why_and_nothing_is_left(wrong: dict[str, Any], message: str) -> None:
    before = descriptors()
    assert asyncio.run(refusal(**wrong)) == f"{NAME} refused {wrong.get('edge', EDGE)}: {message}"
    assert descriptors() == before


def test_another_version_is_refused_with_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    packb = msgpack.packb
    monkeypatch.setattr(msgpack, "packb", lambda hello: packb(hello | {"version": 1}))
    assert f"wire version 1 connects to wire version {VERSION}: install the same Thalweg" in asyncio.run(refusal())


def test_a_listener_that_is_not_there_is_said() -> None:
    with pytest.raises(TransportError, match=r"cannot connect .* Connection refused"):
        asyncio.run(connect("thalweg-nobody", EDGE, TOKEN))


def test_an_address_that_is_taken_is_said() -> None:
    async def main() -> None:
        async with listening(Taker()):
            with pytest.raises(TransportError, match=f"cannot listen at {NAME}: Address already in use"):
                ShmListener(NAME, TOKEN, Taker().accepted)

    asyncio.run(main())


def test_ten_thousand_connections_that_say_nothing_hold_few_descriptors_and_keep_nobody_out() -> None:
    async def main() -> int:
        taker, most = Taker(), 0
        async with listening(taker):
            before = descriptors()
            held: list[socket.socket] = []
            for i in range(10_000):
                stranger = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                stranger.connect(f"\0{NAME}")
                held.append(stranger)
                await asyncio.sleep(0)
                if len(held) > 100:
                    held.pop(0).close()
                if i % 500 == 0:
                    most = max(most, descriptors() - before)
            sender = await connect(NAME, EDGE, TOKEN)
            sender.offer(number(5))
            await taker.has(1)
            sender.close()
            for stranger in held:
                stranger.close()
        return most

    assert asyncio.run(main()) < 300


async def speak(messages: list[bytes]) -> tuple[list[str], int]:
    """Come in properly, then say this. What the receiver lost its link for; and descriptors left open."""
    before, taker, lost = descriptors(), Taker(), []
    async with listening(taker):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(f"\0{NAME}")
        hello = {"version": VERSION, "edge": EDGE, "token": TOKEN, "generation": 0}
        sock.send(b"h" + msgpack.packb(hello))
        await taker.linked.wait()
        taker.links[0].on_lost = lost.append
        with contextlib.suppress(OSError):
            for message in messages:
                sock.send(message)
                await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
        sock.close()
    return lost, descriptors() - before


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(min_size=1, max_size=30) | st.sampled_from([b"r", b"e", b"m", b"g", b"s\xc0"]), max_size=5))
def test_a_peer_that_speaks_garbage_loses_its_link_at_most(messages: list[bytes]) -> None:
    lost, left = asyncio.run(speak(messages))
    assert len(lost) <= 1 and left == 0


def test_a_record_announced_without_a_ring_is_said() -> None:
    assert asyncio.run(speak([b"r"]))[0] == ["the producer announced a record before it gave a ring"]


def test_a_ring_that_claims_ten_gigabytes_is_refused_and_closed() -> None:
    before = descriptors()
    fd = os.memfd_create("huge")
    os.ftruncate(fd, 10 << 30)
    with pytest.raises(RingError, match="hold no ring"):
        RingReader(fd)
    assert descriptors() == before


@pytest.mark.parametrize(("call", "code"), [("memfd_create", errno.EMFILE), ("ftruncate", errno.ENOSPC)])
def test_shared_memory_that_cannot_be_had_is_one_message_and_nothing_is_left(
    call: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    before = descriptors()
    monkeypatch.setattr(os, call, fails)
    with pytest.raises(RingError, match=r"cannot get 0\.3 MB of shared memory: "):
        RingWriter()
    message = asyncio.run(refusal())
    assert "shared memory" in message
    assert descriptors() == before


def hello(**changed: Any) -> bytes:
    return b"h" + msgpack.packb({"version": VERSION, "edge": EDGE, "token": TOKEN, "generation": 0} | changed)


@pytest.mark.parametrize(
    "message",
    [
        hello(generation=float("inf")),
        hello(generation=float("nan")),
        hello(generation="9" * 5000),
        hello(generation=[1]),
        hello(generation=True),
        hello(edge=[1]),
        hello(edge={}),
        hello(edge=None),
        hello(token=b"x"),
        hello(token="\ud800".encode(errors="surrogatepass").decode("latin-1")),
        hello(version=[[]]),
        hello(version=True),
        b"h" + b"\xc7\x01\x01\x01",
        b"h" + b"\x91" * 60_000,
        b"h\xdf\xff\xff\xff\xff",
        b"h\x81\x01\x02",
        b"h\x93\x01\x02\x03",
        b"h\x80",
        b"h",
        b"\xff" * 60_000,
    ],
)
def test_a_greeting_that_is_none_is_answered_and_hung_up_on(message: bytes) -> None:
    unhandled: list[str] = []

    async def main() -> tuple[bytes, bytes]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, said: unhandled.append(said["message"]))
        async with listening(Taker()) as listener:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
                stranger.setblocking(False)
                stranger.connect(f"\0{NAME}")
                stranger.send(message)
                async with asyncio.timeout(5):
                    said = await loop.sock_recv(stranger, 1000)
                    end = await loop.sock_recv(stranger, 1000)
            assert not listener._greeting
        return said, end

    said, end = asyncio.run(main())
    assert said[:1] == b"n" and printable(said[1:].decode(), None) == said[1:].decode() and len(said) < 600
    assert (end, unhandled) == (b"", [])
