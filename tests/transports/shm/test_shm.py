"""Two ends of a shared memory edge on one loop: everything arrives, in order, whatever the consumer holds on to."""

from __future__ import annotations

import asyncio
import os

import numpy as np

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import VideoFrame
from thalweg.transports.shm import ShmListener, ShmReceiver, ShmSender, connect


def frame(number: int, size: int) -> Packet:
    return Packet(
        stream="a.b", seq=number, time=number, payload=VideoFrame(pixels=np.full((1, size), number % 256, np.uint8))
    )


async def ends(window: int) -> tuple[ShmSender, ShmReceiver]:
    accepted: asyncio.Future[ShmReceiver] = asyncio.get_running_loop().create_future()
    listener = ShmListener(f"thalweg-test-{os.getpid()}", "token", lambda _, receiver: accepted.set_result(receiver))
    listener.expect("a -> b", window)
    sender = await connect(listener.address, "a -> b", "token")
    receiver = await accepted
    listener.close()
    return sender, receiver


async def carry(sizes: list[int], window: int, keep: int) -> list[Packet]:
    """Send a frame of each size; the packets that arrive, every `keep`th of them held until the end."""
    sender, receiver = await ends(window)
    room, arrived = asyncio.Event(), asyncio.Event()
    sender.on_room, receiver.on_packet = room.set, arrived.set
    held: list[Packet] = []
    seen: list[int] = []

    async def produce() -> None:
        for number, size in enumerate(sizes):
            while not sender.offer(frame(number, size)):
                await room.wait()
                room.clear()

    async def consume() -> None:
        while len(seen) < len(sizes):
            await arrived.wait()
            arrived.clear()
            while (packet := receiver.take()) is not None:
                seen.append(packet.seq)
                assert (packet.payload.pixels == packet.seq % 256).all()
                if keep and packet.seq % keep == 0:
                    held.append(packet)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(produce())
        group.create_task(consume())
    assert seen == list(range(len(sizes)))
    sender.close()
    receiver.close()
    return held


def test_everything_arrives_in_order_while_sizes_change() -> None:
    asyncio.run(carry([10, 300_000, 5, 40_000, 2_000_000, 8] * 5, window=3, keep=0))


def test_a_consumer_that_keeps_packets_for_ever_holds_up_nobody_and_they_stay_whole() -> None:
    held = asyncio.run(carry([100_000] * 60, window=8, keep=7))
    assert all((packet.payload.pixels == packet.seq % 256).all() for packet in held)
    assert len(held) == 9


def test_a_window_of_one_lets_one_packet_be_under_way() -> None:
    asyncio.run(carry([100] * 30, window=1, keep=0))
