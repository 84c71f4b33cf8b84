"""Two ends of a shared memory edge on one loop: everything arrives, in order, whatever the consumer holds on to."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket

import numpy as np
import pytest

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import VideoFrame
from thalweg.pipeline.signal import KeyFrame, Signal
from thalweg.transports.codec import encode_signal
from thalweg.transports.shm import messages
from thalweg.transports.shm import sender as sender_module
from thalweg.transports.shm.listener import ShmListener
from thalweg.transports.shm.receiver import ShmReceiver
from thalweg.transports.shm.sender import ShmSender, connect


@pytest.fixture(autouse=True)
def no_garbage() -> None:
    """What earlier tests left in cycles would otherwise let go of its descriptors while we count ours."""
    gc.collect()


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


def test_a_packet_that_cannot_be_read_costs_only_itself_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> tuple[list[int], list[str], list[str], int]:
        sender, receiver = await ends(window=3)
        bad, lost, seen = [], [], []
        room, acknowledged = asyncio.Event(), asyncio.get_running_loop().create_future()
        sender.on_room, sender.on_acknowledged, receiver.on_bad = room.set, acknowledged.set_result, bad.append
        sender.on_lost = receiver.on_lost = lost.append
        arrived = asyncio.Event()
        receiver.on_packet = arrived.set
        for number in range(3):
            if number == 1:
                monkeypatch.setattr(sender_module, "encode", lambda _: [b"no packet"])
            assert sender.offer(frame(number, 10))
            monkeypatch.undo()
        async with asyncio.timeout(5):
            while len(seen) < 2:
                await arrived.wait()
                arrived.clear()
                while (packet := receiver.take()) is not None:
                    seen.append(packet.seq)
            await room.wait()
            receiver.acknowledge(2)
            await acknowledged
        sender.close()
        receiver.close()
        return seen, [message.partition(":")[0] for message in bad], lost, acknowledged.result()

    expected = ([0, 2], ["a packet that came cannot be read, and is left out"], [], 3)
    assert asyncio.run(main()) == expected


def test_connecting_that_is_given_up_leaves_no_socket_open() -> None:
    async def main() -> int:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
            silent.bind(f"\0thalweg-silent-{os.getpid()}")
            silent.listen(1)
            before = len(os.listdir("/proc/self/fd"))
            connecting = asyncio.ensure_future(connect(f"thalweg-silent-{os.getpid()}", "a -> b", "token"))
            await asyncio.sleep(0.01)
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await connecting
            return len(os.listdir("/proc/self/fd")) - before

    assert asyncio.run(main()) == 0


def test_a_descriptor_that_comes_with_a_message_that_takes_none_is_closed() -> None:
    async def main() -> int:
        sender, receiver = await ends(window=3)
        heard: asyncio.Queue[Signal] = asyncio.Queue()
        receiver.on_signal = heard.put_nowait
        sender.signal(KeyFrame())
        async with asyncio.timeout(5):
            await heard.get()
            before = len(os.listdir("/proc/self/fd"))
            with os.fdopen(os.memfd_create("spare")) as spare:
                sender._wire.send(b"s" + encode_signal(KeyFrame()), [spare.fileno()])
            await heard.get()
        left = len(os.listdir("/proc/self/fd")) - before
        sender.close()
        receiver.close()
        return left

    assert asyncio.run(main()) == 0


def test_an_end_that_does_not_read_is_hung_up_on_before_the_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_UNSENT_AT_MOST", 1 << 20)

    async def main() -> list[str]:
        sender, receiver = await ends(window=3)
        lost: list[str] = []
        sender.on_lost = lost.append
        asyncio.get_running_loop().remove_reader(receiver._wire._sock)
        for _ in range(100_000):
            sender.signal(KeyFrame(origin="x" * 1000))
            if lost:
                break
        sender.close()
        receiver.close()
        return lost

    assert asyncio.run(main()) == ["the other end does not read"]
