"""Where an edge leaves its worker: what waits there is decided by the channel's policy, not by the link."""

from __future__ import annotations

import asyncio
from typing import Any

from thalweg.deploy.ops.observing.stats import stats_of
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.channel import Policy
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.transports.link import ignore


class NarrowLink:
    """A link with room for as many packets as it was given."""

    settled = 0

    def __init__(self, next_seq: int = 0) -> None:
        self.next_seq = next_seq
        self.left: list[Packet] = []
        self.on_room = self.on_signal = self.on_ended = self.on_acknowledged = self.on_lost = ignore
        self.room = 0
        self.sent: list[str] = []

    @property
    def has_room(self) -> bool:
        return self.room > 0

    def offer(self, packet: Packet) -> bool:
        if self.room == 0:
            return False
        self.room -= 1
        self.sent.append(packet.payload.text)
        self.left.append(packet)
        return True

    def give(self, room: int) -> None:
        self.room += room
        self.on_room()

    def unreceived(self) -> list[Packet]:
        return self.left

    def signal(self, signal: object) -> None:
        """Nobody listens."""

    def end(self) -> None:
        self.on_ended()

    def close(self) -> None:
        """Nothing is open."""


class Words:
    """`count` words, then waits to be let go."""

    outputs = {"token": Token}

    def __init__(self, go: asyncio.Event, count: int) -> None:
        self._go = go
        self._count = count

    async def run(self, ctx: Any) -> None:
        for number in range(self._count):
            await ctx.send(Token(text=str(number)), time=number)
        self._go.set()


class Sink:
    """Somewhere else."""

    inputs = {"token": Token}

    def process(self, packet: Packet, ctx: Any) -> None:
        """Never called here."""


async def sent_by(policy: Policy, room: int) -> list[str]:
    """What goes out when there is room only after ten words were sent."""
    emitted, link, graph = asyncio.Event(), NarrowLink(), Graph()
    graph.add("words", Words(emitted, 10))
    graph.add("sink", Sink())
    graph.connect("words", "sink", policy=policy, capacity=20)
    worker = Worker(graph, hosted=["words"])
    worker.outlets[graph.connections[0].name].attach(link)
    running = asyncio.ensure_future(worker.run())
    await emitted.wait()
    await asyncio.sleep(0.01)
    link.give(room)
    await asyncio.wait_for(running, 5)
    return link.sent


def test_a_latest_edge_sends_what_is_newest_when_there_is_room() -> None:
    assert asyncio.run(sent_by(Policy.LATEST, 5)) == ["9"]


def test_a_block_edge_sends_everything_in_order() -> None:
    assert asyncio.run(sent_by(Policy.BLOCK, 10)) == [str(n) for n in range(10)]


def test_what_a_lost_link_had_not_delivered_goes_by_the_next_one() -> None:
    async def main() -> list[str]:
        emitted, link, graph = asyncio.Event(), NarrowLink(), Graph()
        graph.add("words", Words(emitted, 10))
        graph.add("sink", Sink())
        graph.connect("words", "sink", capacity=20)
        worker = Worker(graph, hosted=["words"])
        outlet = worker.outlets[graph.connections[0].name]
        outlet.attach(link)
        running = asyncio.ensure_future(worker.run())
        await emitted.wait()
        await asyncio.sleep(0.01)
        link.give(5)
        await asyncio.sleep(0.01)
        link.on_lost("the network was gone for too long")
        outlet.attach(again := NarrowLink(next_seq=2))
        again.give(10)
        await asyncio.wait_for(running, 5)
        return again.sent

    assert asyncio.run(main()) == [str(n) for n in range(2, 10)]


def test_what_leads_nowhere_is_counted_where_drops_are_shown() -> None:
    async def main() -> tuple[dict[str, int], int]:
        emitted, graph = asyncio.Event(), Graph()
        graph.add("words", Words(emitted, 10))
        graph.add("sink", Sink())
        graph.connect("words", "sink", capacity=20)
        worker = Worker(graph, hosted=["words"])
        name = graph.connections[0].name
        running = asyncio.ensure_future(worker.run())
        await emitted.wait()
        worker.outlets[name].give_up("the worker is gone")
        await asyncio.wait_for(running, 5)
        told = stats_of(worker)["channels"][name]
        return told["drops"], told["pushed"] - told["popped"] - told["depth"]

    assert asyncio.run(main()) == ({"gone": 10}, 10)
