"""One end of a gRPC edge as a process of its own: `take FOLDER` or `offer FOLDER ADDRESS N`; certificates in FOLDER."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.transports.edges import EDGE, TOKEN, Taker, number
from thalweg.transports.grpc.listener import GrpcListener
from thalweg.transports.grpc.sender import GrpcSender
from thalweg.transports.grpc.tls import Certificates


def certificates(folder: Path) -> Certificates:
    """Those that the test made."""
    return Certificates(*((folder / name).read_bytes() for name in ("authority", "certificate", "key")))


class PrintingTaker(Taker):
    """Prints each number."""

    def take(self) -> None:
        """Print what has come."""
        super().take()
        while self.taken:
            print(self.taken.pop(0), flush=True)


async def take(folder: Path) -> None:
    """Print the port, and then the numbers that come, until the end."""
    taker = PrintingTaker()
    listener = GrpcListener(TOKEN, taker.accepted, certificates(folder))
    listener.expect(EDGE, 64)
    print(await listener.start("0.0.0.0:0"), flush=True)
    await taker.ended.wait()
    await asyncio.sleep(0.5)
    await listener.stop()


async def offer(folder: Path, address: str, n: int) -> None:
    """Offer a number every 5 ms, and wait until all were taken."""
    sender = GrpcSender(address, EDGE, TOKEN, certificates(folder))
    await sender.connected()
    room, ended = asyncio.Event(), asyncio.Event()
    sender.on_room, sender.on_ended = room.set, ended.set
    for i in range(n):
        while not sender.offer(number(i)):
            room.clear()
            await room.wait()
        await asyncio.sleep(0.005)
    sender.end()
    await ended.wait()
    sender.close()


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    asyncio.run(take(Path(where)) if what == "take" else offer(Path(where), rest[0], int(rest[1])))
