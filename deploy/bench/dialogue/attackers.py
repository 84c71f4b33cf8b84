"""Those who besiege a server in `bench siege`, a process of their own: `python -m … URL KIND…` until its input ends.

Each has an address of its own on loopback, from 127.0.1.1 on. They go as fast as a process of the lowest priority can:
on machines of their own they would not take the server's processors. What they did is printed as JSON at the end.

kind        what each address does, again and again
headers     opens ten connections, asks for something by one byte a second, never to the end
bodies      the same with the body of an offer, after whole headers
worthless   posts offers that are none, each in another way
hollow      posts good offers, to which no connection ever comes
floods      asks for the page, with a new connection each time
fragments   connects as people do, and sends pieces of a message that has no end
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from urllib.parse import urlsplit

import aiohttp
from aiortc import RTCDataChannel, RTCPeerConnection, RTCSessionDescription
from aiortc.rtcsctptransport import SCTP_DATA_FIRST_FRAG, DataChunk

from thalweg.stages.io.terminal import say_json

HELD = 10
FIRST = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
WORTHLESS = (
    "v=0",
    "v=0\r\nm=audio",
    FIRST + "m=audio 9 UDP/TLS/RTP/SAVPF 96\r\n" * 400,
    FIRST + "m=audio 9 UDP/TLS/RTP/SAVPF 96\r\na=candidate:1 1 UDP 1 10.0.0.1 9 typ host\r\n" * 300,
    FIRST + "a=group:BUNDLE " + " ".join(map(str, range(9000))),
    "\x00" * 20_000,
)
PIECES_PER_S = 2_000
PAUSE_S = 0.02
CONNECT_S = 15.0

Attack = Callable[[str, str, Counter[str]], Awaitable[None]]


async def main(url: str, kinds: list[str]) -> None:
    """Attack until standard input ends; the addresses are shared out among the kinds."""
    done: Counter[str] = Counter()
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), over.set)
    addresses = (f"127.0.{1 + n // 250}.{1 + n % 250}" for n in count())
    async with asyncio.TaskGroup() as group:
        for kind in kinds:
            attack, many = ATTACKS[kind]
            for _ in range(many):
                group.create_task(_again(attack, url, next(addresses), done))
        await over.wait()
        say_json(dict(done))
        sys.stdout.flush()
        os._exit(0)  # attackers say no goodbye


async def _again(attack: Attack, url: str, address: str, done: Counter[str]) -> None:
    while True:
        try:
            await attack(url, address, done)
        except (OSError, EOFError, TimeoutError, aiohttp.ClientError) as error:
            done[f"cut off: {type(error).__name__}"] += 1
        await asyncio.sleep(PAUSE_S)


async def _drip(url: str, address: str, done: Counter[str], kind: str, start: bytes) -> None:
    """Hold connections and send a byte each second; a server that hangs up is called again."""
    parts = urlsplit(url)

    async def one() -> None:
        _, writer = await asyncio.open_connection(parts.hostname, parts.port, local_addr=(address, 0))
        done[kind] += 1
        try:
            writer.write(start)
            while not writer.is_closing():
                await writer.drain()
                await asyncio.sleep(1.0)
                writer.write(b"a")
        finally:
            writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(HELD)), return_exceptions=True)


async def _headers(url: str, address: str, done: Counter[str]) -> None:
    await _drip(url, address, done, "headers", b"POST /offer HTTP/1.1\r\nHost: localhost\r\nX-A: ")


async def _bodies(url: str, address: str, done: Counter[str]) -> None:
    head = b"POST /offer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
    await _drip(url, address, done, "bodies", head)


async def _worthless(url: str, address: str, done: Counter[str]) -> None:
    async with _from(address) as http:
        for sdp in WORTHLESS:
            async with http.post(f"{url}/offer", json={"sdp": sdp}) as response:
                done[f"worthless: {response.status}"] += 1


async def _hollow(url: str, address: str, done: Counter[str]) -> None:
    sdp = await an_offer()
    async with _from(address) as http:
        while True:
            async with http.post(f"{url}/offer", json={"sdp": sdp}) as response:
                done[f"hollow: {response.status}"] += 1


async def _floods(url: str, address: str, done: Counter[str]) -> None:
    async with _from(address, force_close=True) as http, http.get(f"{url}/") as response:
        await response.read()
        done[f"floods: {response.status}"] += 1


async def _fragments(url: str, address: str, done: Counter[str]) -> None:
    peer = RTCPeerConnection()
    try:
        async with asyncio.timeout(CONNECT_S):
            channel = await _connected(peer, url, address, done)
            if channel is None:
                await asyncio.sleep(1.0)
                return
        sctp = peer.sctp
        assert sctp is not None
        tsn = sctp._local_tsn
        for n in count():
            piece = DataChunk(flags=0 if n else SCTP_DATA_FIRST_FRAG)
            piece.tsn, piece.stream_id, piece.protocol, piece.user_data = tsn, channel.id, 51, b"x" * 1150
            tsn = (tsn + 1) % 2**32
            await sctp._send_chunk(piece)
            done["fragments"] += 1
            if peer.connectionState != "connected":
                return
            if n % 20 == 19:
                await asyncio.sleep(20 / PIECES_PER_S)
    finally:
        await peer.close()


async def _connected(peer: RTCPeerConnection, url: str, address: str, done: Counter[str]) -> RTCDataChannel | None:
    """The open data channel of a conversation of its own; None where the server has no room."""
    channel, opened = peer.createDataChannel("events"), asyncio.Event()
    channel.on("open", opened.set)
    peer.addTransceiver("audio")
    await peer.setLocalDescription(await peer.createOffer())
    async with (
        _from(address) as http,
        http.post(f"{url}/offer", json={"sdp": peer.localDescription.sdp}) as response,
    ):
        done[f"fragments, offer: {response.status}"] += 1
        if response.status != 200:
            return None
        answer = await response.json()
    await peer.setRemoteDescription(RTCSessionDescription(sdp=answer["sdp"], type="answer"))
    await opened.wait()
    return channel


async def an_offer() -> str:
    """A good one, for sound only, whose connection never comes."""
    peer = RTCPeerConnection()
    peer.addTransceiver("audio")
    await peer.setLocalDescription(await peer.createOffer())
    sdp = str(peer.localDescription.sdp)
    await peer.close()
    return sdp


def _from(address: str, **options: bool) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(local_addr=(address, 0), **options)  # type: ignore[arg-type]  # flags by name
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=CONNECT_S))


ATTACKS: dict[str, tuple[Attack, int]] = {
    "headers": (_headers, 100),
    "bodies": (_bodies, 30),
    "worthless": (_worthless, 30),
    "hollow": (_hollow, 30),
    "floods": (_floods, 100),
    "fragments": (_fragments, 10),
}
"""Each kind, and from how many addresses."""


if __name__ == "__main__":
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], sys.argv[2:]))
