"""A lender whose workers are actors of a real Ray cluster."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.conftest import require_package
from tests.deploy.cluster.ray_cluster import ray_cluster
from tests.deploy.fleet.test_lender import gone
from tests.deploy.fleet.test_lending import listening
from thalweg.deploy.bench.fleet.cloud import PLACE, Cloud
from thalweg.deploy.bench.fleet.moving import Moving, running
from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.commands import node
from thalweg.deploy.fleet.lending import on_ray
from thalweg.deploy.fleet.lending.ray_actor import tls
from thalweg.deploy.fleet.lending.ray_worker import RayWorker
from thalweg.deploy.fleet.placing.lenders import NodeFolder
from thalweg.deploy.runtime.tasks import beside
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.transports.codec import decode, encode
from thalweg.transports.fleet.lease import VERSION, frame, next_frame
from thalweg.transports.grpc.tls import NAME, make_certificates

pytestmark = pytest.mark.real
PATIENCE_S = 120
WHERE = """
import json
import os

from thalweg.pipeline.payload import Token


class Where:
    inputs = {"token": Token}
    outputs = {"token": Token}
    replicable = "stateless"

    def process(self, packet, ctx):
        where = {"pid": os.getpid(), "actor": os.getppid(), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
        ctx.emit(Token(text=json.dumps({**where, "folder": os.getcwd()})))
"""

TWICE = """
import asyncio
import sys

from thalweg.deploy.cluster.remote import RemoteError
from thalweg.deploy.fleet.lending import on_ray
from thalweg.deploy.fleet.lending.ray_worker import RayWorker


async def main():
    asked = RayWorker(sys.argv[1], gpus=1)
    first = await on_ray.place(asked)
    on_ray.PLACE_S = 2.0
    try:
        await on_ray.place(asked)
    except RemoteError as error:
        print(error)
    first.link[1].close()


asyncio.run(main())
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Its address. It says that it has a GPU."""
    require_package("cryptography", "edge")
    with ray_cluster({"num_cpus": 1, "num_gpus": 1}) as address:
        yield address


@asynccontextmanager
async def lending(folder: Path, *more: str) -> AsyncIterator[Cloud]:
    """Workers on Ray."""
    require_package("cryptography", "edge")
    cloud = Cloud(folder)
    cloud.start(more=["--on", "ray", *more])
    try:
        await listening(cloud)
        yield cloud
    finally:
        cloud.end()


async def told(reader: asyncio.StreamReader) -> tuple[Any, ...]:
    """The next frame that is no pong."""
    while (found := await next_frame(reader))[0] == "pong":
        pass
    return found


async def renewed(writer: asyncio.StreamWriter) -> None:
    """By beats."""
    while True:
        writer.write(frame("ping", 1))
        await asyncio.sleep(0.5)


@asynccontextmanager
async def leased(cloud: Cloud) -> AsyncIterator[tuple[dict[str, Any], asyncio.StreamReader]]:
    """A lease of `Where`: what that says, and what comes next."""
    context = NodeFolder(cloud.node).context()
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", cloud.port, ssl=context, server_hostname=certs.LENDER_NAME
    )
    try:
        writer.write(frame("lease", VERSION, "where:Where", {}, False) + frame("begin", 1, None))
        packet = Packet(stream="a.token", seq=0, time=0, payload=Token(text=""))
        async with asyncio.timeout(PATIENCE_S), beside(renewed(writer)):
            assert (opened := await told(reader))[0] == "open", opened
            writer.write(frame("packet", 1, 0, b"".join(encode(packet))))
            said = await told(reader)
            found = said[3] or (await told(reader))[3]  # in a part, or with the answer
        yield json.loads(decode(found[0]).payload.text), reader
    finally:
        writer.transport.abort()


def test_a_lent_worker_has_the_gpu_that_ray_gives_it_and_ends_with_its_lease(cluster: str, tmp_path: Path) -> None:
    (tmp_path / "where.py").write_text(WHERE, encoding="utf-8")

    async def case() -> None:
        more = "--address", cluster, "--gpus", "1", "--files", str(tmp_path)
        async with lending(tmp_path, *more) as cloud:
            async with leased(cloud) as (first, _):
                assert (first["gpu"], first["folder"]) == ("0", str(tmp_path))
                assert {first["pid"], first["actor"]}.isdisjoint(cloud.pids())
            assert await asyncio.to_thread(gone, str(first["pid"]))
            assert await asyncio.to_thread(gone, str(first["actor"]))
            async with leased(cloud) as (second, reader):  # of the same GPU: it was free again
                os.kill(second["actor"], signal.SIGKILL)
                async with asyncio.timeout(PATIENCE_S):
                    while await reader.read(1000):
                        pass
            assert await asyncio.to_thread(gone, str(second["pid"]))
            async with leased(cloud) as (third, _):
                cloud.signal(signal.SIGKILL)
                assert await asyncio.to_thread(gone, str(third["pid"]))
                assert await asyncio.to_thread(gone, str(third["actor"]))

    asyncio.run(case())


def test_a_stage_goes_to_a_ray_cluster_and_comes_home_with_its_state(cluster: str, tmp_path: Path) -> None:
    async def case() -> None:
        async with lending(tmp_path, "--address", cluster) as cloud, running(cloud.node) as moving:
            await moving.until_at(PLACE)
            await asyncio.sleep(0.3)
            cloud.signal(signal.SIGKILL)
            await moving.next_result_ms(time.monotonic_ns())
            await asyncio.sleep(0.3)
            assert moving.place == "edge" and moving.wrong() == 0
            assert {text.split()[3] for *_, text in moving.results} == {"here", "there"}

    asyncio.run(case())


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--gpus", "2"), "the Ray cluster has no node for it: it asks for 2 GPU, and of the 1 nodes the most is 1"),
        (("--files", "/nowhere"), "/nowhere, which --files names, is no folder on the Ray node"),
        (("--address", "127.0.0.1:1"), "there is no Ray cluster at 127.0.0.1:1: Connection refused"),
    ],
)
def test_where_ray_gives_no_worker_the_stage_stays_and_is_told_why(
    more: tuple[str, ...], why: str, cluster: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def all_here(moving: Moving) -> bool:
        return {text.split()[3] for *_, text in moving.results} == {"here"}

    async def case() -> None:
        async with lending(tmp_path, "--address", cluster, *more) as cloud, running(cloud.node) as moving:
            await moving.until(lambda: why in caplog.text)
            before = len(moving.results)
            await moving.until(lambda: len(moving.results) > before + 3)
            assert all_here(moving) and moving.wrong() == 0

    asyncio.run(case())


def test_where_others_use_what_it_asks_for_it_is_told_so_in_time(cluster: str, tmp_path: Path) -> None:
    environ = {**os.environ, "RAY_ADDRESS": cluster}
    found = subprocess.run(
        [sys.executable, "-c", TWICE, str(tmp_path)], env=environ, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert "did not place it within 2 s: its nodes have what it asks for, but others use it" in found.stdout, found


def test_what_a_node_says_before_its_worker_is_placed_waits_here_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    placing, said = asyncio.Event(), os.urandom(4 * on_ray.HELD)
    heard, taken = bytearray(), asyncio.Event()
    pieces: list[bytearray] = []
    ways: list[asyncio.StreamWriter] = []
    hold = on_ray._hold

    async def holding(reader: asyncio.StreamReader, held: bytearray) -> None:
        pieces.append(held)
        await hold(reader, held)

    async def worker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(heard) < len(said):
            heard.extend(await reader.read(1 << 16))
        taken.set()
        writer.close()

    async def case() -> None:
        there = await asyncio.start_server(worker, "127.0.0.1", 0)

        async def place(asked: RayWorker) -> on_ray.Placed:
            await placing.wait()
            link = await asyncio.open_connection(*there.sockets[0].getsockname())
            ways.append(link[1])
            return on_ray.Placed(None, link)

        async def lent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ways.append(writer)
            await on_ray.serve(reader, writer, RayWorker("/"))

        monkeypatch.setattr(on_ray, "place", place)
        monkeypatch.setattr(on_ray, "_hold", holding)
        here = await asyncio.start_server(lent, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*here.sockets[0].getsockname())
        writer.write(said)
        while not pieces or len(pieces[0]) <= on_ray.HELD:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert len(pieces[0]) <= on_ray.HELD + on_ray.PIECE
        placing.set()
        await taken.wait()
        for each in (writer, *ways):
            each.close()
            with suppress(ConnectionError):
                await each.wait_closed()
        there.close()
        here.close()

    asyncio.run(asyncio.wait_for(case(), PATIENCE_S))
    assert bytes(heard) == said


def test_a_link_to_an_actor_is_for_whom_that_lease_was_made() -> None:
    require_package("cryptography", "edge")
    ours, others = make_certificates(), make_certificates()

    async def ask(port: int, context: ssl.SSLContext) -> bytes:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=NAME)
        except OSError:
            return b""
        try:
            writer.write(b"x")
            return await reader.read()
        except OSError:
            return b""
        finally:
            writer.transport.abort()

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(1))
        writer.close()

    async def case() -> None:
        server = await asyncio.start_server(answered, "127.0.0.1", 0, ssl=tls(ours, ssl.Purpose.CLIENT_AUTH))
        port = server.sockets[0].getsockname()[1]
        nothing_shown = ssl.create_default_context(cadata=ours.authority.decode())
        assert await ask(port, nothing_shown) == b""
        assert await ask(port, tls(others, ssl.Purpose.SERVER_AUTH)) == b""
        assert await ask(port, tls(ours, ssl.Purpose.SERVER_AUTH)) == b"x"
        server.close()

    asyncio.run(case())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--gpus", "1"), "they want --on ray"),
        (("--on", "ray", "--resource", "camera"), "an amount is expected"),
        (("--on", "ray", "--resource", "camera=-1"), "an amount is expected"),
    ],
)
def test_what_is_asked_of_ray_is_checked(given: tuple[str, ...], said: str) -> None:
    found = CliRunner().invoke(node, ["lend", *given])
    assert found.exit_code == 2 and said in found.output
