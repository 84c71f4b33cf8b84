"""Who comes to a lender, and how long they stay; what a worker of it runs."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_package
from thalweg.deploy.bench.fleet.cloud import Cloud
from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.lending import lender as lending
from thalweg.deploy.fleet.lending import run
from thalweg.deploy.fleet.lending.lender import Lender, LenderFiles
from thalweg.deploy.fleet.lending.process import Program, end, lend, worker_here
from thalweg.deploy.fleet.lending.ray_worker import RayWorker
from thalweg.deploy.fleet.lending.worker import LentStage
from thalweg.deploy.fleet.placing.lenders import NodeFolder
from thalweg.models.child_process import module_path, python_module, without_secrets
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.signal import Interrupt
from thalweg.transports.codec import decode, encode, encode_signal
from thalweg.transports.fleet.lease import VERSION, frame, next_frame

MEGA = 1 << 20


async def lend_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *_: object) -> None:
    """As `lend`, with a worker that does nothing."""
    writer.write(frame("open", 10.0))
    await asyncio.Event().wait()


@asynccontextmanager
async def lender(folder: Path, admitted: set[str]) -> AsyncIterator[tuple[Lender, int, ssl.SSLContext]]:
    """It, its port, and what a node shows."""
    require_package("cryptography", "edge")
    cloud = Cloud(folder)
    files = LenderFiles(cloud.lender / "authority.pem", cloud.lender / "lender.pem")
    found = Lender(files, lambda name, *_: "" if name in admitted else "not you", 2, folder, worker_here(-1))
    async with asyncio.timeout(30), found.listening("127.0.0.1", 0) as port:
        yield found, port, NodeFolder(cloud.node).context()


async def ask(port: int, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=certs.LENDER_NAME)


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except OSError:
        return True


def test_strangers_hold_few_connections_and_not_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "ARRIVING_OF_AN_ADDRESS", 2)
    monkeypatch.setattr(lending, "HANDSHAKE_S", 1.0)

    async def case() -> None:
        async with lender(tmp_path, set()) as (_, port, context):
            strangers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            assert await ended(strangers[0][0])
            assert not strangers[1][0].at_eof() and not strangers[2][0].at_eof()
            for reader, writer in strangers:
                assert await ended(reader)
                writer.close()
            reader, writer = await ask(port, context)
            assert await next_frame(reader) == ("refused", "not you")
            writer.transport.abort()

    asyncio.run(case())


def test_strangers_of_many_addresses_do_not_keep_a_node_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "ARRIVING", 4)

    async def case() -> None:
        async with lender(tmp_path, set()) as (found, port, context):
            strangers = [
                await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.0.{2 + number % 2}", 0))
                for number in range(4)
            ]
            reader, writer = await ask(port, context)
            assert await next_frame(reader) == ("refused", "not you")
            writer.transport.abort()
            for _, stranger in strangers:
                stranger.transport.abort()
            while found._tasks:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert not found._arriving and not found._keeper.connections

    asyncio.run(case())


@pytest.mark.real
def test_a_lender_needs_no_web_server() -> None:
    told = "import sys, thalweg.deploy.fleet.lending.run; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0


def test_a_node_that_is_revoked_loses_the_worker_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "lend", lend_nothing)

    async def case() -> None:
        admitted = {"drone"}
        async with lender(tmp_path, admitted) as (found, port, context):
            reader, writer = await ask(port, context)
            assert (await next_frame(reader))[0] == "open"
            found.review()
            assert found.lent == {"drone": 1} and found.free == 1
            admitted.clear()
            found.review()
            assert await ended(reader)
            assert found.lent == {} and found.free == 2
            writer.transport.abort()

    asyncio.run(case())


class Writer:
    """Takes nothing."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None:
        await asyncio.Event().wait()


class Taking(Writer):
    """Takes everything."""

    async def drain(self) -> None: ...


def test_a_worker_runs_no_stage_that_could_not_be_moved_such_as_one_that_writes_files(tmp_path: Path) -> None:
    async def case() -> None:
        stage = LentStage(asyncio.StreamReader(), Writer())  # type: ignore[arg-type]
        with pytest.raises(FleetError, match=r"sink.jsonl.* is not lent"):
            await stage._open(("lease", VERSION, "sink.jsonl", {"path": str(tmp_path / "x")}, False))
        assert not (tmp_path / "x").exists()

    asyncio.run(case())


@pytest.mark.parametrize(
    "settings",
    [
        {"backend": "json.tool:main"},
        {"backends": {"edge": {"backend": "echo"}, "cloud": {"backend": "ctypes:CDLL"}}},
    ],
)
def test_a_worker_imports_no_backend_that_a_node_names_but_ours(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def case() -> None:
        stage = LentStage(asyncio.StreamReader(), Writer())  # type: ignore[arg-type]
        with pytest.raises(FleetError, match="is no backend that is installed here"):
            await stage._open(("lease", VERSION, "language.chat", settings, True))

    asyncio.run(case())


def test_a_worker_is_given_no_key_that_a_node_could_send_to_its_own_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_API_KEY", "s3cret")
    monkeypatch.setenv("BOUND_API_KEY", "for the cloud")
    monkeypatch.delenv("THALWEG_KEYS", raising=False)
    assert not worker_here(-1).secrets
    monkeypatch.setenv("THALWEG_KEYS", "BOUND_API_KEY=https://llm.example")
    assert worker_here(-1).secrets == {"BOUND_API_KEY"}


def test_what_asks_a_ray_cluster_for_a_worker_keeps_what_it_joins_that_by() -> None:
    joins = {"RAY_AUTH_TOKEN": "s3cret", "RAY_USE_TLS": "1", "RAY_TLS_SERVER_CERT": "a", "RAY_TLS_SERVER_KEY": "b"}
    secrets = RayWorker(".").program().secrets
    assert without_secrets(joins | {"HOUSE_API_KEY": "s3cret"}, secrets) == joins


@pytest.mark.real
def test_the_environment_of_a_worker_holds_no_secret_but_those(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_API_KEY", "s3cret")
    monkeypatch.setenv("BOUND_API_KEY", "bound")
    (tmp_path / "told.py").write_text("import os, sys\nopen('told', 'w').write(' '.join(os.environ))\n", "utf-8")
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])

    async def case() -> None:
        reader, writer = asyncio.StreamReader(), Taking()
        program = Program("told", (), frozenset({"BOUND_API_KEY"}))
        await lend(reader, writer, program, tmp_path)  # type: ignore[arg-type]

    asyncio.run(case())
    told = (tmp_path / "told").read_text(encoding="utf-8").split()
    assert "BOUND_API_KEY" in told and "PATH" in told and "HOUSE_API_KEY" not in told


def test_a_worker_has_its_stage_take_settings_for_samples_to_come_before_the_next_packet() -> None:
    async def case() -> None:
        reader = asyncio.StreamReader()
        settings = {"modality": "camera", "model": "vehicle", "size": "l"}
        reader.feed_data(frame("lease", VERSION, "encode.units", settings, True))
        reader.feed_data(frame("declare", {"size": "s"}) + frame("configure", {"size": "m"}))
        stage = LentStage(reader, Taking())  # type: ignore[arg-type]
        serving = asyncio.create_task(stage.serve())
        async with asyncio.timeout(30):
            while (state := getattr(stage, "_stage", None)) is None or state.snapshot()["only"] != "m":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert state._default_size == "s"
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(case())


def test_a_worker_that_refuses_waits_until_the_node_has_hung_up(tmp_path: Path) -> None:
    async def case() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(frame("lease", VERSION, "no.stage", {}, False) + frame("ping", 1))
        serving = asyncio.create_task(LentStage(reader, Taking()).serve())  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        assert not serving.done()
        reader.feed_eof()
        await serving

    asyncio.run(case())


def test_a_worker_keeps_no_answers_for_a_node_that_does_not_read(tmp_path: Path) -> None:
    async def case() -> None:
        stage = LentStage(asyncio.StreamReader(), Writer())  # type: ignore[arg-type]
        hearing = asyncio.create_task(stage._hear(("ping", 1)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not hearing.done()
        hearing.cancel()

    asyncio.run(case())


def gone(pid: str) -> bool:
    """Within thirty seconds; one that nobody has waited for is, too."""
    until_s = time.monotonic() + 30
    while time.monotonic() < until_s:
        try:
            if Path("/proc", pid, "stat").read_text(encoding="ascii").split()[2] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.real
@pytest.mark.parametrize("then", ["wait", "exit"])
def test_what_a_worker_has_started_ends_with_it(then: str) -> None:
    async def case() -> str:
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", f"sleep 90 >/dev/null & echo $!; {then}"),
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        pid = (await process.stdout.readline()).decode().strip()
        if then == "exit":
            await process.wait()
        await end(process)
        return pid

    assert gone(asyncio.run(case()))


async def answer(reader: asyncio.StreamReader) -> tuple[Any, ...]:
    """The next answer, with what came before it of the same packet in place of its results."""
    results: list[bytes] = []
    while (found := await next_frame(reader))[0] == "part":
        results += found[3]
    return *found[:3], [*results, *found[3]], *found[4:]


async def lent_worker(
    folder: Path, use: str, most_bytes: int
) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader, asyncio.StreamWriter]:
    """A lent worker of its own with a stage of `folder`, as a lender starts it, and the link to it."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *python_module("thalweg.deploy.fleet.lending.worker", str(theirs.fileno()), str(most_bytes)),
            pass_fds=[theirs.fileno()],
            cwd=folder,
            env=os.environ | module_path(),
            start_new_session=True,
        )
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(frame("lease", VERSION, use, {}, False) + frame("begin", 1, None))
    return process, reader, writer


def test_each_lent_worker_has_its_share_of_what_its_lender_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "allowed_memory", lambda: 9000)
    assert run.share_of_memory(3) == 3000


HOG = """
import numpy as np
from thalweg.pipeline.payload import Token


class Hog:
    inputs = {"token": Token}
    outputs = {"token": Token}
    replicable = "stateless"

    def process(self, packet, ctx):
        ctx.emit(Token(text=str(np.ones(int(packet.payload.text), np.uint8).nbytes)))
"""


@pytest.mark.real
def test_a_worker_that_wants_more_memory_than_it_has_loses_that_packet_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "hog.py").write_text(HOG, encoding="utf-8")

    async def case() -> list[tuple[Any, ...]]:
        process, reader, writer = await lent_worker(tmp_path, "hog:Hog", 700 * MEGA)
        async with asyncio.timeout(90):
            assert (await next_frame(reader))[0] == "open"
            answers = []
            for number, size in enumerate((MEGA, 1000 * MEGA, MEGA)):
                packet = Packet(stream="a.token", seq=number, time=0, payload=Token(text=str(size)))
                writer.write(frame("packet", 1, number, b"".join(encode(packet))))
                answers.append(await answer(reader))
            writer.close()
            await process.wait()
        return answers

    first, second, third = asyncio.run(case())
    assert (len(first[3]), len(second[3]), len(third[3])) == (1, 0, 1)
    assert "MemoryError" in second[6] and (first[6], third[6]) == ("", "")


DRIP = """
import asyncio

from thalweg.pipeline.payload import Token


class Drip:
    inputs = {"token": Token}
    outputs = {"token": Token}
    replicable = "stateless"

    async def process(self, packet, ctx):
        for number in range(int(packet.payload.text)):
            ctx.emit(Token(text=str(number) + "." * 100_000))
            await asyncio.sleep(0)
        await asyncio.sleep(600 * (packet.epoch > 0))
"""


@pytest.mark.real
def test_what_a_stage_emits_comes_while_it_works_in_order_and_an_interrupt_ends_that(tmp_path: Path) -> None:
    (tmp_path / "drip.py").write_text(DRIP, encoding="utf-8")

    async def case() -> tuple[list[str], tuple[Any, ...], tuple[Any, ...]]:
        process, reader, writer = await lent_worker(tmp_path, "drip:Drip", -1)
        async with asyncio.timeout(90):
            assert (await next_frame(reader))[0] == "open"
            asked = Packet(stream="a.token", seq=0, time=0, epoch=1, payload=Token(text="60"))
            writer.write(frame("packet", 1, 0, b"".join(encode(asked))))
            await asyncio.sleep(0.5)  # nothing is read: what does not fit waits there
            found: list[str] = []
            while len(found) < 60:
                kind, generation, number, results = await next_frame(reader)
                assert (kind, generation, number) == ("part", 1, 0) and len(results) <= 3
                found += [decode(record).payload.text.rstrip(".") for record in results]
            writer.write(frame("signal", encode_signal(Interrupt(origin="turns", epoch=2))))
            first = await next_frame(reader)
            calm = Packet(stream="a.token", seq=1, time=0, payload=Token(text="2"))
            writer.write(frame("packet", 1, 1, b"".join(encode(calm))))
            second = await answer(reader)
            writer.close()
            await process.wait()
        return found, first, second

    found, first, second = asyncio.run(case())
    assert found == [str(number) for number in range(60)]
    assert (first[:4], first[6]) == (("answer", 1, 0, ()), "")
    assert second[:3] == ("answer", 1, 1) and len(second[3]) == 2
