"""A stage that runs on a lent worker: another process, over mutual TLS, taken away in every way."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.conftest import require_package
from thalweg.deploy.bench.fleet.cloud import PLACE, Cable, Cloud
from thalweg.deploy.bench.fleet.moving import Moving, most_within, running
from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.placing.lease import Lease
from thalweg.deploy.fleet.placing.lenders import NodeFolder
from thalweg.transports.fleet.lease import LARGEST, LENGTH, VERSION, LeaseError, frame, next_frame, parts_of

pytestmark = pytest.mark.real


@asynccontextmanager
async def moved(folder: Path) -> AsyncIterator[tuple[Cloud, Cable, Moving]]:
    """A stage that has gone to a lender, over a cable."""
    cloud = Cloud(folder)
    try:
        async with Cable(cloud.port).laid() as cable:
            cloud.tell(cable.port)
            cloud.start()
            async with running(cloud.node) as moving:
                await moving.until_at(PLACE)
                yield cloud, cable, moving
    finally:
        cloud.end()


@pytest.mark.parametrize("harm", ["killed", "worker killed", "stopped", "cut up"])
def test_a_lent_worker_that_is_lost_costs_no_result_and_no_state(tmp_path: Path, harm: str) -> None:
    require_package("cryptography", "edge")

    async def lose() -> None:
        async with moved(tmp_path) as (cloud, cable, moving):
            await asyncio.sleep(0.3)
            if harm == "worker killed":
                cloud.kill(cloud.pids()[1])
            elif harm.startswith("cut"):
                cable.cut(*harm.split()[1:])
            else:
                cloud.signal(signal.SIGKILL if harm == "killed" else signal.SIGSTOP)
            took_ms = await moving.next_result_ms(time.monotonic_ns())
            await asyncio.sleep(0.3)
            assert moving.place == "edge" and took_ms < 2000
            assert moving.wrong() == 0 and {text.split()[3] for *_, text in moving.results} == {"here", "there"}

    asyncio.run(lose())


def test_what_was_held_back_on_the_way_is_not_believed_when_it_comes(tmp_path: Path) -> None:
    require_package("cryptography", "edge")

    async def lose() -> None:
        async with moved(tmp_path) as (_, cable, moving):
            cable.cut("down")
            await moving.until(lambda: moving.place == "edge")
            cable.mend()
            await moving.until_at(PLACE)
            await asyncio.sleep(0.3)
            assert moving.wrong() == 0

    asyncio.run(lose())


@pytest.mark.parametrize("after_s", [0.0, 0.003])
def test_a_link_that_collapses_in_the_middle_of_a_handover_costs_no_result_and_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_s: float
) -> None:
    require_package("cryptography", "edge")
    begin = Lease.begin

    async def lose() -> None:
        cloud = Cloud(tmp_path)
        async with Cable(cloud.port).laid() as cable:

            def cut_short(lease: Lease, generation: int, state: bytes | None) -> None:
                monkeypatch.setattr(Lease, "begin", begin)
                assert state is not None and len(state) > 4_000_000
                begin(lease, generation, state)
                asyncio.get_running_loop().call_later(after_s, cable.cut, "up")

            monkeypatch.setattr(Lease, "begin", cut_short)
            cloud.tell(cable.port)
            cloud.start()
            try:
                async with running(cloud.node, ballast=4_000_000) as moving:
                    await moving.until(lambda: moving.place == PLACE)
                    await moving.until(lambda: moving.place == "edge")
                    await moving.next_result_ms(time.monotonic_ns())
                    assert {text.split()[3] for *_, text in moving.results} == {"here"}
                    cable.mend()
                    await moving.until_at(PLACE)
                    assert moving.wrong() == 0
            finally:
                cloud.end()

    asyncio.run(lose())


def test_a_node_without_a_lender_runs_its_stage(tmp_path: Path) -> None:
    require_package("cryptography", "edge")

    async def run() -> None:
        cloud = Cloud(tmp_path)
        async with running(cloud.node) as moving:
            await moving.until(lambda: len(moving.results) > 5)
            assert moving.place == "edge" and moving.wrong() == 0

    asyncio.run(run())


def test_the_decision_is_logged_with_its_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    require_package("cryptography", "edge")
    caplog.set_level(logging.WARNING, "thalweg.deploy.fleet.placing")

    async def run() -> None:
        async with moved(tmp_path) as (cloud, _, moving):
            cloud.signal(signal.SIGKILL)
            await moving.until(lambda: moving.place == "edge")
            await moving.next_result_ms(time.monotonic_ns())

    asyncio.run(run())
    assert "adder: edge → fog-1" in caplog.text and "fog is quicker" in caplog.text
    assert "adder: fog → edge, since fog missed 2 beats" in caplog.text


async def ask(cloud: Cloud, certificate: Path | None, *lease: object) -> tuple[object, ...]:
    """What a lender answers whoever shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cloud.node / "authority.pem")
    if certificate is not None:
        context.load_cert_chain(certificate)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", cloud.port, ssl=context, server_hostname=certs.LENDER_NAME
    )
    try:
        writer.write(frame("lease", *lease))
        async with asyncio.timeout(30):
            return await next_frame(reader)
    finally:
        writer.transport.abort()


async def listening(cloud: Cloud) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", cloud.port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.transport.abort()
                return


def test_a_lender_lends_to_those_the_hub_has_named_and_only_what_is_installed(tmp_path: Path) -> None:
    require_package("cryptography", "edge")

    async def run() -> None:
        cloud = Cloud(tmp_path)
        other = tmp_path / "other.pem"
        cloud.certify("drone", certs.WORKING, other)  # of the same name, of which the hub has not spoken
        renewal = tmp_path / "renewal.pem"
        cloud.certify("drone", certs.RENEWAL, renewal)
        stranger = Cloud(tmp_path / "stranger")
        mine = cloud.node / "working.pem"
        adder = VERSION, "counting:Adder", {}, True
        cloud.start()
        try:
            await listening(cloud)
            assert (await ask(cloud, mine, *adder))[0] == "open"
            for shown in (other, renewal):
                assert (await ask(cloud, shown, *adder))[0] == "refused"
            for nobody in (None, stranger.node / "working.pem"):
                with pytest.raises((OSError, asyncio.IncompleteReadError)):
                    await ask(cloud, nobody, *adder)
            for wrong, said in (
                ((VERSION + 1, "counting:Adder", {}, True), "version"),
                ((VERSION, "os:environ", {}, True), "no module in the lender's folder"),
                ((VERSION, "nothing.there", {}, True), "no module in the lender's folder"),
                ((VERSION, "counting:Adder", {"speed": 1}, True), "speed"),
                ((VERSION, "counting:Missing", {}, True), "cannot be imported"),
                (("garbage",), "a lease is asked for by version"),
            ):
                answer = await ask(cloud, mine, *wrong)
                assert answer[0] == "refused" and said in str(answer[1])
        finally:
            cloud.end()

    asyncio.run(run())


def test_a_worker_of_a_node_that_says_garbage_ends_and_the_lender_does_not(tmp_path: Path) -> None:
    require_package("cryptography", "edge")

    async def run() -> None:
        cloud = Cloud(tmp_path)
        cloud.start()
        try:
            await listening(cloud)
            context = NodeFolder(cloud.node).context()
            for garbage in (
                LENGTH.pack(LARGEST + 1),
                LENGTH.pack(4) + b"\xff\xff\xff\xff",
                b"\0" * 8,
                frame("ping", 1),
            ):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", cloud.port, ssl=context, server_hostname=certs.LENDER_NAME
                )
                writer.write(garbage)
                async with asyncio.timeout(30):
                    said = await reader.read()
                assert said == b"" or parts_of(said[LENGTH.size :])[0] == "refused"
                writer.transport.abort()
            answer = await ask(cloud, cloud.node / "working.pem", VERSION, "counting:Adder", {}, True)
            assert answer[0] == "open"
        finally:
            cloud.end()

    asyncio.run(run())


def test_lenders_that_cannot_be_read_are_left_as_they_were(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path)
    assert folder.lenders() == []
    path = tmp_path / "lenders.json"
    path.write_text(json.dumps([{"place": "fog", "name": "a", "host": "h", "port": 1}]), encoding="utf-8")
    assert [lender.name for lender in folder.lenders()] == ["a"]
    for wrong in ("{", "[3]", '[{"place": "fog", "name": "b", "host": "h", "port": 70000}]'):
        path.write_text(wrong, encoding="utf-8")
        assert [lender.name for lender in folder.lenders()] == ["a"]


def test_a_frame_that_is_too_large_is_not_sent() -> None:
    with pytest.raises(LeaseError, match="too large"):
        frame("packet", bytes(LARGEST))


def test_the_most_moves_within_a_span_are_counted() -> None:
    assert most_within([0, 3, 11, 12, 12.5, 30], 10) == 4
    assert most_within([], 10) == 0
