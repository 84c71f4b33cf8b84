"""What one connection may cost: too much of anything ends it with a reason, and harms nobody else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.rtcsctptransport import SCTP_DATA_FIRST_FRAG, SCTP_DATA_LAST_FRAG, DataChunk, SackChunk

from thalweg.pipeline.clock import SystemClock
from thalweg.transports.webrtc import Call, Peer

PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


class Stopped(SystemClock):
    """A clock that stands still, so that a slow machine does not make an attack a slow one."""

    def now_ns(self) -> int:
        return 1_000_000_000


class Hostile:
    """The other side, with its hands under the transport."""

    def __init__(self, connection: RTCPeerConnection, channel: Any) -> None:
        self.connection = connection
        self.channel = channel
        self.sctp: Any = connection.sctp
        self.sctp._outbound_queue.clear()
        self.tsn = self.sctp._local_tsn

    async def chunk(self, flags: int, data: bytes, *, stream: int | None = None, skip: int = 1) -> None:
        chunk = DataChunk(flags=flags)
        chunk.tsn = self.tsn
        self.tsn = (self.tsn + skip) % 2**32
        chunk.stream_id = self.channel.id if stream is None else stream
        chunk.stream_seq = self.sctp._outbound_stream_seq.get(chunk.stream_id, 0)
        chunk.protocol, chunk.user_data = 51, data
        await self.sctp._send_chunk(chunk)

    async def acknowledge(self, gaps: list[tuple[int, int]]) -> None:
        chunk = SackChunk()
        chunk.cumulative_tsn = self.sctp._last_received_tsn
        chunk.advertised_rwnd, chunk.gaps = 100_000, gaps
        await self.sctp._send_chunk(chunk)


@asynccontextmanager
async def connected(peer: Peer) -> AsyncIterator[Hostile]:
    """The other side of `peer`, with an open channel. Within `PATIENCE_S`."""
    mine = RTCPeerConnection()
    channel, opened = mine.createDataChannel("events"), asyncio.Event()
    channel.on("open", opened.set)
    mine.addTransceiver("audio")
    await mine.setLocalDescription(await mine.createOffer())
    answer = await peer.answer(mine.localDescription.sdp)
    await mine.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
    async with asyncio.timeout(PATIENCE_S):
        await opened.wait()
        while peer._channel is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        yield Hostile(mine, channel)
    await peer.close()
    await mine.close()


async def fragments(hostile: Hostile) -> None:
    for number in range(200):
        await hostile.chunk(SCTP_DATA_FIRST_FRAG if number == 0 else 0, bytes(1000))
        await asyncio.sleep(0.002)


async def pieces(hostile: Hostile) -> None:
    for _ in range(1000):
        await hostile.chunk(0, b"x")


async def disorder(hostile: Hostile) -> None:
    for _ in range(1500):
        await hostile.chunk(SCTP_DATA_FIRST_FRAG, b"", skip=2)
        await asyncio.sleep(0.002)


async def streams(hostile: Hostile) -> None:
    for number in range(40):
        await hostile.chunk(SCTP_DATA_FIRST_FRAG, b"x", stream=1000 + number)


async def gaps(hostile: Hostile) -> None:
    await hostile.acknowledge([(2, 65_000)] * 200)


async def channels(hostile: Hostile) -> None:
    for number in range(40):
        hostile.connection.createDataChannel(f"c{number}")


async def datagrams(hostile: Hostile) -> None:
    for _ in range(3_000):
        await hostile.sctp.transport.transport._send(b"\x80" + bytes(20))
        await asyncio.sleep(0)


async def traffic(hostile: Hostile) -> None:
    for _ in range(1_500):
        await hostile.sctp.transport.transport._send(b"\x80" + bytes(1100))
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("attack", "why"),
    [
        (fragments, "without an end"),
        (pieces, "pieces of messages in a second"),
        (disorder, "pieces of messages"),
        (streams, "streams"),
        (gaps, "gaps"),
        (channels, "another data channel|streams"),
        (datagrams, "packets in a second"),
        (traffic, "Mbit/s"),
    ],
)
def test_too_much_of_anything_ends_the_connection_with_a_reason(
    attack: Callable[[Hostile], Awaitable[None]], why: str
) -> None:
    async def case() -> None:
        peer, expelled = Peer(Call(Stopped())), asyncio.Event()
        peer.on_state = lambda state: expelled.set() if state == "expelled" else None
        async with connected(peer) as hostile:
            await attack(hostile)
            await expelled.wait()
        assert re.search(why, peer.why)

    asyncio.run(case())


def test_a_message_of_many_pieces_that_comes_to_an_end_is_heard() -> None:
    async def case() -> None:
        call, heard = Call(), asyncio.Event()
        call.on_control = lambda control: heard.set()
        peer = Peer(call)
        async with connected(peer) as hostile:
            text = b'{"v": 1, "type": "say", "text": "' + b"a" * 1900 + b'"}'
            for number, byte in enumerate(text[at : at + 20] for at in range(0, len(text), 20)):
                first = SCTP_DATA_FIRST_FRAG if number == 0 else 0
                last = SCTP_DATA_LAST_FRAG if (number + 1) * 20 >= len(text) else 0
                await hostile.chunk(first | last, byte)
            await heard.wait()
        assert not peer.why

    asyncio.run(case())
