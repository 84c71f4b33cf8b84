"""A gRPC edge whose connection breaks: nothing is lost, doubled or let in beyond the window, whoever is slow."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import require_package
from tests.transports.edges import EDGE, TOKEN, Taker, number, offer_all
from thalweg.pipeline.signal import Interrupt, KeyFrame

require_package("grpc", "grpc")
require_package("cryptography", "grpc")

from tests.transports.grpc.test_grpc_edge import Proxy, listening  # noqa: E402
from thalweg.transports.codec import VERSION, encode, encode_signal, size_of  # noqa: E402
from thalweg.transports.grpc import limits, sender  # noqa: E402
from thalweg.transports.grpc.receiver import GrpcReceiver  # noqa: E402
from thalweg.transports.grpc.sender import GrpcSender  # noqa: E402
from thalweg.transports.grpc.wire import METHOD, Frame, from_bytes, record_frame, to_bytes  # noqa: E402
from thalweg.transports.link import TransportError  # noqa: E402


async def until(true: Any) -> None:
    """Wait, at most ten seconds."""
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


def record(i: int, data: bytes | None = None) -> Any:
    """The frame with packet `i`, or with other data in its place."""
    parts = encode(number(i)) if data is None else [data]
    return from_bytes(record_frame(i, parts, size_of(parts)))


def test_what_was_received_and_not_taken_still_counts_against_the_window_after_a_reconnect() -> None:
    async def main() -> tuple[list[int], list[str]]:
        taker, lost = Taker(reading=False), []
        async with listening(taker, window=4) as (_, port):
            proxy = Proxy(port)
            link = GrpcSender(f"127.0.0.1:{await proxy.start()}", EDGE, TOKEN)
            link.on_lost = lost.append
            await link.connected()
            while link.has_room:
                link.offer(number(link._number))
            await until(lambda: taker.links[0].received == 4)
            taker.links[0].on_lost = lost.append
            proxy.cut()
            proxy.restore()
            await until(lambda: link.reconnects and link._welcomed_s)
            assert not link.has_room
            taker.reading = True
            async with asyncio.TaskGroup() as group:
                group.create_task(offer_all(link, [number(i) for i in range(4, 20)]))
                taker.take()
                await taker.ended.wait()
            link.close()
            await proxy.stop()
        return taker.taken, lost

    assert asyncio.run(main()) == (list(range(20)), [])


def test_a_link_that_is_cut_while_its_consumer_takes_nothing_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_HELD_S", 0.05)

    async def main() -> tuple[list[int], list[str]]:
        taker, lost = Taker(reading=False), []
        async with listening(taker, window=2) as (_, port):
            proxy = Proxy(port)
            link = GrpcSender(f"127.0.0.1:{await proxy.start()}", EDGE, TOKEN, patience_s=0.5)
            link.on_lost = lost.append
            await link.connected()
            for i in range(2):
                link.offer(number(i))
            for cut in range(1, 5):
                await until(lambda cut=cut: link.reconnects >= cut - 1 and link._welcomed_s)
                await asyncio.sleep(0.3)
                proxy.cut()
                proxy.restore()
            await until(lambda: link._welcomed_s)
            taker.reading = True
            taker.take()
            link.end()
            await taker.ended.wait()
            link.close()
            await proxy.stop()
        return taker.taken, lost

    assert asyncio.run(main()) == ([0, 1], [])


class Ear:
    """Hears what a receiver tells by one connection; `stuck`: as one that is broken and does not know it yet."""

    def __init__(self, receiver: GrpcReceiver, stuck: bool = False) -> None:
        self.heard: list[Any] = []
        self.freed = asyncio.Event()
        if not stuck:
            self.freed.set()
        self.telling = asyncio.ensure_future(receiver.tell(receiver.connected(), self._write))

    async def _write(self, frame: Any) -> None:
        await self.freed.wait()
        self.heard.append((frame.WhichOneof("kind"), frame.taken.count))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_connection_that_does_not_know_that_it_is_broken_takes_no_news_from_the_one_after_it() -> None:
    async def main() -> list[Any]:
        receiver = GrpcReceiver(4)
        old, older = Ear(receiver, stuck=True), Ear(receiver)
        await settle()
        new = Ear(receiver)
        await settle()
        for i in range(4):
            receiver.accept(record(i))
        receiver.signal(KeyFrame())
        old.freed.set()
        while receiver.take() is not None:
            pass
        await settle()
        assert old.telling.done() and older.telling.done()
        new.telling.cancel()
        return new.heard

    assert asyncio.run(main()) == [("taken", 0), ("taken", 4), ("signal", 0)]


def test_the_end_is_said_again_to_a_producer_that_has_not_heard_it() -> None:
    async def main() -> list[Any]:
        receiver = GrpcReceiver(4)
        Ear(receiver, stuck=True).telling.cancel()
        receiver.accept(Frame(end={}))
        receiver.close()
        assert not receiver.over
        again = Ear(receiver)
        await again.telling
        return again.heard

    assert asyncio.run(main())[-1] == ("end", 0)


def test_a_producer_whose_consumer_has_hung_up_is_told_at_once() -> None:
    async def main() -> str:
        taker = Taker()
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        async with listening(taker) as (_, port):
            link = GrpcSender(f"127.0.0.1:{port}", EDGE, TOKEN)
            link.on_lost = lost.set_result
            await link.connected()
            taker.links[0].close()
            reason = await asyncio.wait_for(lost, 5)
            link.close()
        return reason

    assert f"the consumer of edge '{EDGE}' has hung up" in asyncio.run(main())


def test_what_a_lost_link_had_not_delivered_is_there_for_the_next_one() -> None:
    async def main() -> tuple[list[int], list[int]]:
        taker = Taker()
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        async with listening(taker) as (_, port):
            proxy = Proxy(port)
            link = GrpcSender(f"127.0.0.1:{await proxy.start()}", EDGE, TOKEN, patience_s=0.2)
            link.on_lost = lost.set_result
            await link.connected()
            link.offer(number(0))
            await taker.has(1)
            proxy.cut()
            for i in (1, 2):
                link.offer(number(i))
            await lost
            left = [packet.seq for packet in link.unreceived() if packet.seq >= 1]
            link.close()
            await proxy.stop()
        return taker.taken, left

    assert asyncio.run(main()) == ([0], [1, 2])


def test_a_packet_and_a_signal_that_cannot_be_read_cost_themselves_and_are_told() -> None:
    receiver = GrpcReceiver(4)
    bad, taken, heard = [], [], []
    receiver.on_bad, receiver.on_signal = bad.append, heard.append
    for frame in (
        record(0),
        record(1, b"no packet"),
        Frame(signal=b"\xc1"),
        Frame(signal=encode_signal(Interrupt(epoch=3))),
        record(2),
    ):
        receiver.accept(frame)
    while (packet := receiver.take()) is not None:
        taken.append(packet.seq)
    assert taken == [0, 2]
    assert heard == [Interrupt(epoch=3)]
    assert receiver.unreadable.count == 1
    assert [message.partition(":")[0] for message in bad] == [
        "a signal that came cannot be read, and is left out",
        "a packet that came cannot be read, and is left out",
    ]


def test_a_packet_that_cannot_be_read_is_taken_and_acknowledged_with_those_around_it() -> None:
    async def main() -> int:
        receiver = GrpcReceiver(4)
        for frame in (record(0, b"?"), record(1), record(2, b"?"), record(3)):
            receiver.accept(frame)
        while receiver.take() is not None:
            pass
        receiver.accept(record(4))
        receiver.acknowledge(1)
        return receiver._acknowledged

    assert asyncio.run(main()) == 3


def test_a_packet_too_large_for_a_message_is_refused_and_the_next_one_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LARGEST_RECORD", 10_000)

    async def main() -> list[int]:
        taker = Taker()
        async with listening(taker) as (_, port):
            link = GrpcSender(f"127.0.0.1:{port}", EDGE, TOKEN)
            await link.connected()
            with pytest.raises(TransportError, match="too large for an edge between hosts"):
                link.offer(number(0, 20_000))
            link.offer(number(1))
            await taker.has(1)
            link.close()
        return taker.taken

    assert asyncio.run(main()) == [1]


def test_bytes_that_are_no_frame_end_the_link_and_are_told() -> None:
    import grpc

    async def main() -> tuple[list[str], list[str]]:
        taker, lost, unhandled = Taker(), [], []
        asyncio.get_running_loop().set_exception_handler(lambda _, said: unhandled.append(said["message"]))
        async with listening(taker) as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.stream_stream(METHOD, request_serializer=to_bytes)()
            hello = {"version": VERSION, "edge": EDGE, "token": TOKEN, "session": b"1"}
            await call.write(Frame(hello=hello))
            await taker.linked.wait()
            taker.links[0].on_lost = lost.append
            await call.write(b"\xff" * 20)
            await until(lambda: lost)
        return lost, unhandled

    lost, unhandled = asyncio.run(main())
    assert len(lost) == 1 and lost[0].startswith("the frame cannot be read: ")
    assert unhandled == []


def test_signals_that_no_connection_takes_are_kept_up_to_a_bound_and_that_is_told_once() -> None:
    receiver, bad = GrpcReceiver(4), []
    receiver.on_bad = bad.append
    for epoch in range(3 * limits.SIGNALS):
        receiver.signal(Interrupt(epoch=epoch))
    assert len(receiver._signals) == limits.SIGNALS
    assert bad == [f"more than {limits.SIGNALS} signals wait for a connection: the oldest are left out"]
