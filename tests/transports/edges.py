"""What tests of edges share: packets, and ends that keep what comes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token

EDGE = "a.out -> b.in"
TOKEN = "a secret"


def number(i: int, size: int = 0) -> Packet:
    """The packet `i`, with a text of `size` characters behind its number."""
    return Packet(stream="a.out", seq=i, time=i, payload=Token(text=f"{i}" + " " * size))


@dataclass
class Taker:
    """Takes whatever the link of an edge gives, and can be told to stop doing so."""

    taken: list[int] = field(default_factory=list)
    links: list[Any] = field(default_factory=list)
    reading: bool = True
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    linked: asyncio.Event = field(default_factory=asyncio.Event)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def accepted(self, edge: str, link: Any) -> None:
        """A producer has come."""
        self.links.append(link)
        self.linked.set()
        link.on_packet = self.take
        link.on_end = self.ended.set

    def take(self) -> None:
        """Take everything that has come."""
        while self.reading and (packet := self.links[-1].take()) is not None:
            self.taken.append(int(packet.payload.text))
            self.came.set()

    async def has(self, n: int) -> None:
        """Wait until `n` packets were taken."""
        while len(self.taken) < n:
            self.came.clear()
            await self.came.wait()


async def offer_all(link: Any, packets: list[Packet]) -> None:
    """Offer packets, waiting for room, and then the end."""
    room = asyncio.Event()
    link.on_room = room.set
    for packet in packets:
        while not link.offer(packet):
            room.clear()
            await room.wait()
    link.end()
