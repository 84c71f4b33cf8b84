"""gRPC edges over real TCP and TLS: nothing is lost when the link is cut, strangers stay out, memory stays bounded."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import require_lab, require_package
from tests.transports.edges import EDGE, TOKEN, Taker, number, offer_all
from thalweg.pipeline.errors import ThalwegError
from thalweg.transports.link import TransportError

require_package("grpc", "grpc")
require_package("cryptography", "grpc")

from tests.transports.grpc.listening import listening  # noqa: E402
from thalweg.transports.grpc import limits  # noqa: E402
from thalweg.transports.grpc.listener import GrpcListener  # noqa: E402
from thalweg.transports.grpc.receiver import GrpcReceiver  # noqa: E402
from thalweg.transports.grpc.sender import GrpcSender  # noqa: E402
from thalweg.transports.grpc.tls import Certificates, make_certificates  # noqa: E402
from thalweg.transports.grpc.wire import Frame  # noqa: E402


async def refusal(address: str, *, token: str = TOKEN, edge: str = EDGE, certs: Certificates | None = None) -> str:
    """What a sender says that could not connect."""
    sender = GrpcSender(address, edge, token, certs)
    try:
        with pytest.raises(TransportError) as caught:
            await sender.connected()
    finally:
        sender.close()
    return str(caught.value)


class Proxy:
    """Passes bytes between a port of its own and another; can be cut, and restored."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open = True
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        self._open = False
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def restore(self) -> None:
        self._open = True

    async def stop(self) -> None:
        self.cut()
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        there_reader, there = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, there]
        with contextlib.suppress(OSError):
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, there))
                group.create_task(_pump(there_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


async def through_cuts(cuts: int, out_s: float) -> list[int]:
    """300 packets through a link that is cut so often, for so long each."""
    taker, certs = Taker(), make_certificates()
    async with listening(taker, certs) as (_, port):
        proxy = Proxy(port)
        sender = GrpcSender(f"127.0.0.1:{await proxy.start()}", EDGE, TOKEN, certs)
        await sender.connected()
        async with asyncio.TaskGroup() as group:
            group.create_task(offer_all(sender, [number(i) for i in range(300)]))
            for cut in range(cuts):
                await taker.has(40 * (cut + 1))
                taker.reading = False
                proxy.cut()
                await asyncio.sleep(out_s)
                taker.reading = True
                taker.take()
                proxy.restore()
            await taker.ended.wait()
        assert sender.reconnects >= cuts
        sender.close()
        await proxy.stop()
    return taker.taken


def test_a_link_that_is_cut_again_and_again_loses_and_doubles_nothing() -> None:
    assert asyncio.run(through_cuts(4, 0.1)) == list(range(300))


def test_a_link_that_is_cut_for_five_seconds_goes_on_where_it_was() -> None:
    assert asyncio.run(through_cuts(1, 5.0)) == list(range(300))


def test_a_consumer_that_stops_reading_holds_up_its_producer_at_the_window() -> None:
    async def main() -> tuple[int, int]:
        taker = Taker(reading=False)
        async with listening(taker, window=16) as (_, port):
            sender = GrpcSender(f"127.0.0.1:{port}", EDGE, TOKEN)
            await sender.connected()
            offered = 0
            for _ in range(50):
                while sender.offer(number(offered, 100_000)):
                    offered += 1
                await asyncio.sleep(0.01)
            kept = len(sender._kept)
            sender.close()
        return offered, kept

    assert asyncio.run(main()) == (16, 16)


def test_a_producer_of_a_higher_generation_takes_the_place_of_the_one_before_who_stays_out() -> None:
    async def main() -> tuple[list[int], str]:
        taker = Taker()
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        async with listening(taker) as (_, port):
            old = GrpcSender(f"127.0.0.1:{port}", EDGE, TOKEN, generation=1)
            await old.connected()
            old.on_lost = lost.set_result
            new = GrpcSender(f"127.0.0.1:{port}", EDGE, TOKEN, generation=2)
            await new.connected()
            taker.links[0].close()
            reason = await asyncio.wait_for(lost, 10)
            new.offer(number(7))
            await taker.has(1)
            old.close()
            new.close()
        return taker.taken, reason

    taken, reason = asyncio.run(main())
    assert taken == [7]
    assert "is connected already" in reason


def test_a_sender_that_was_closed_leaves_nothing_under_way() -> None:
    async def scenario() -> None:
        async with listening(Taker()) as (_, port):
            sender = GrpcSender(f"127.0.0.1:{port}", EDGE, TOKEN)
            await sender.connected()
            sender.close()
            await sender.wait_closed()
            assert sender.closed
            assert {task for task in asyncio.all_tasks() if "GrpcSender" in repr(task)} == set()

    asyncio.run(scenario())


def test_a_port_that_is_taken_is_said() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            listener = GrpcListener(TOKEN, Taker().accepted, None)
            with pytest.raises(TransportError, match=f"cannot listen at 127.0.0.1:{port}: it is taken"):
                await listener.start(f"127.0.0.1:{port}")
            await listener.stop()

    asyncio.run(main())


def test_a_host_name_that_does_not_resolve_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GREETING_S", 1.0)
    message = asyncio.run(refusal("no-such-host.invalid:1"))
    assert message.startswith(f"cannot connect {EDGE} to no-such-host.invalid:1: ")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"token": "guess"}, "refused: the token is wrong"),
        ({"edge": "x -> y"}, "refused: no edge 'x -> y' is expected here"),
    ],
)
def test_who_may_not_come_in_is_told_why(wrong: dict[str, str], message: str) -> None:
    async def main() -> str:
        async with listening(Taker()) as (_, port):
            return await refusal(f"127.0.0.1:{port}", **wrong)  # type: ignore[arg-type]

    assert message in asyncio.run(main())


def test_another_version_is_refused_with_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> str:
        async with listening(Taker()) as (listener, port):
            greet = listener._greet

            def older(frame: Any) -> GrpcReceiver:
                frame.hello.version = 1
                return greet(frame)

            monkeypatch.setattr(listener, "_greet", older)
            return await refusal(f"127.0.0.1:{port}")

    assert "refused: wire version 1 meets wire version 2: install the same Thalweg" in asyncio.run(main())


@pytest.mark.parametrize("kind", ["another authority", "expired", "none"])
def test_a_certificate_that_is_not_the_deployments_own_connects_to_nobody(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GREETING_S", 1.5)
    ours = make_certificates()
    theirs = {"another authority": make_certificates(), "none": None, "expired": ours}[kind]

    async def main() -> tuple[str, list[Any]]:
        taker = Taker()
        async with listening(taker, make_certificates(valid_days=0) if kind == "expired" else ours) as (_, port):
            return await refusal(f"127.0.0.1:{port}", certs=theirs), taker.links

    message, links = asyncio.run(main())
    assert message.startswith(f"cannot connect {EDGE} to 127.0.0.1:")
    assert links == []


def test_a_peer_that_speaks_something_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GREETING_S", 1.0)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")
        await reader.read(10)
        writer.close()

    async def main() -> str:
        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        async with server:
            return await refusal(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")

    assert asyncio.run(main()).startswith(f"cannot connect {EDGE} to 127.0.0.1:")


FRAMES = st.one_of(
    st.binary(max_size=60).map(lambda data: {"record": {"number": 0, "data": data}}),
    st.integers(0, 2**64 - 1).map(lambda n: {"record": {"number": n, "data": b""}}),
    st.binary(max_size=30).map(lambda data: {"signal": data}),
    st.sampled_from([{"end": {}}, {"hello": {"version": 9}}, {"taken": {"count": 3}}, {}]),
)


@settings(max_examples=200)
@given(st.lists(FRAMES, max_size=8))
def test_no_sequence_of_frames_does_anything_but_be_taken_or_refused(frames: list[dict[str, Any]]) -> None:
    async def main() -> None:
        receiver = GrpcReceiver(4)
        with contextlib.suppress(ThalwegError):
            for frame in frames:
                receiver.accept(Frame(**frame))
                receiver.take()

    asyncio.run(main())


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_be_a_frame_or_be_refused(data: bytes) -> None:
    from google.protobuf.message import DecodeError

    with contextlib.suppress(DecodeError):
        Frame.FromString(data)


def test_between_two_hosts_a_silent_outage_of_five_seconds_costs_nothing(tmp_path: Path) -> None:
    require_lab()
    from tests.netlab import Link, lab

    certs = make_certificates()
    for name, text in dataclasses.asdict(certs).items():
        (tmp_path / name).write_bytes(text)
    end = ("-m", "tests.transports.edge_end")
    with lab("edge", "cloud", link=Link(delay_ms=10)) as net:
        there = net.cloud.python(*end, "take", str(tmp_path), stdout=subprocess.PIPE, text=True)
        assert there.stdout is not None
        port = there.stdout.readline().strip()
        here = net.edge.python(*end, "offer", str(tmp_path), f"{net.cloud.address}:{port}", "600")
        while int(there.stdout.readline()) < 100:
            pass
        net.change(Link(outages=((0, 5),)))
        here.wait(timeout=60)
        taken = [int(line) for line in there.stdout.read().splitlines()]
    assert taken == list(range(101, 600))
