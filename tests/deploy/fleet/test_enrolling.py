"""Who is let in, by which code and certificate, and who is not."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import shutil
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_package
from tests.deploy.fleet.hubs import Hub, ask, hub_at
from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.codes import fits, make_code, read_code
from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.node.asking import HubAddress, HubAway, HubClient, HubRefused
from thalweg.deploy.fleet.node.identity import Identity, enrol
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.transports.fleet.spool import Spool

REPORT: dict[str, Any] = {"boot": 1, "instance": "a", "streams": []}


@pytest.fixture(autouse=True)
def packages() -> None:
    require_package("cryptography", "hub")
    require_package("aiohttp", "hub")


def report(client: HubClient, **said: Any) -> Any:
    return client.call("/v1/report", REPORT | said)


async def reported(identity: Identity, kind: str = certs.WORKING, **said: Any) -> Any:
    return await asyncio.to_thread(ask, identity, kind, lambda client: report(client, **said))


async def refused(identity: Identity, kind: str = certs.WORKING) -> str:
    with pytest.raises(HubRefused) as error:
        await reported(identity, kind)
    assert error.value.status == 403
    return str(error.value)


def test_a_code_lets_one_device_in_once_and_it_reports(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            code = hub.state.new_code("drone-7")
            assert await asyncio.to_thread(enrol, tmp_path / "a", hub.address, code) == "drone-7"
            answer = await reported(Identity(tmp_path / "a"))
            assert abs(answer["time"] - time.time()) < 5 and answer["desired"] == 0
            with pytest.raises(HubRefused, match="code is not good"):
                await asyncio.to_thread(enrol, tmp_path / "b", hub.address, code)

    asyncio.run(case())


def test_a_node_that_another_hub_did_not_take_still_reports_to_its_own(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path / "ours") as ours, hub_at(tmp_path / "theirs") as theirs:
            identity = await ours.node("drone-7")
            code = theirs.state.new_code("drone-7")
            await asyncio.to_thread(enrol, tmp_path / "other", theirs.address, code)
            with pytest.raises(HubRefused, match="code is not good"):
                await asyncio.to_thread(enrol, identity.folder, theirs.address, code)
            await reported(Identity(identity.folder))
            await asyncio.to_thread(enrol, identity.folder, theirs.address, theirs.state.new_code("drone-8"))
            moved = Identity(identity.folder)
            await reported(moved)
            assert moved.name == "drone-8" and not list(identity.folder.glob(".*.new.*"))

    asyncio.run(case())


def test_an_enrolment_whose_answer_was_lost_is_answered_again(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            code = hub.state.new_code("drone-7")
            replies = [hub.state.enrol(read_code(code)[1], *asked) for asked in [requests] * 2]
            assert {reply["name"] for reply in replies} == {"drone-7"}

    key = certs.make_key()
    requests = certs.make_request(key), certs.make_request(key)
    asyncio.run(case())


def test_another_hub_does_not_learn_the_secret_of_a_code(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path / "ours") as ours, hub_at(tmp_path / "theirs") as theirs:
            code = ours.state.new_code("drone-7")
            with pytest.raises(FleetError, match="its authority is another one"):
                await asyncio.to_thread(enrol, tmp_path / "a", theirs.address, code)
            assert not (tmp_path / "a").exists()

    asyncio.run(case())


def test_a_node_does_not_believe_another_hub_at_the_same_address(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path / "ours") as hub:
            identity = await hub.node("drone-7")
        async with hub_at(tmp_path / "theirs", port=int(hub.address.rpartition(":")[2])):
            with pytest.raises(HubAway, match="cannot reach the hub"):
                await reported(identity)

    asyncio.run(case())


def test_a_revoked_node_is_refused_and_enrolling_again_ends_its_old_certificates(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            old = await hub.node("drone-7", tmp_path / "old")
            hub.state.revoke("drone-7")
            assert "was revoked" in await refused(old)
            new = await hub.node("drone-7", tmp_path / "new")
            await reported(new)
            assert "another device" in await refused(old)

    asyncio.run(case())


@pytest.mark.parametrize("then", ["revoked", "another device"])
def test_a_node_that_was_put_out_does_not_come_back_by_the_code_that_let_it_in(then: str, tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            secret = read_code(hub.state.new_code("drone-7"))[1]
            unused = read_code(hub.state.new_code("drone-7"))[1]
            hub.state.enrol(secret, *requests)
            if then == "revoked":
                hub.state.revoke("drone-7")
            else:
                await hub.node("drone-7", tmp_path / "new")
            for old in (secret, unused):
                with pytest.raises(FleetError, match="code is not good"):
                    hub.state.enrol(old, *requests)

    key = certs.make_key()
    requests = certs.make_request(key), certs.make_request(key)
    asyncio.run(case())


def test_a_renewal_certificate_may_only_renew(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            identity = await hub.node("drone-7")
            assert "not good for that" in await refused(identity, certs.RENEWAL)
            before = (identity.folder / "working.pem").read_bytes()
            await asyncio.to_thread(identity.renew)
            assert (identity.folder / "working.pem").read_bytes() != before
            await reported(identity)

    asyncio.run(case())


def test_without_a_certificate_nothing_is_told(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            identity = await hub.node("drone-7")
            address, authority = HubAddress.parse(hub.address), identity.folder / "authority.pem"

            def bare() -> None:
                with HubClient(address, authority, None, floor_s=lambda: 0.0) as client:
                    client.get("/v1/manifest")

            with pytest.raises(HubRefused, match="Only nodes"):
                await asyncio.to_thread(bare)

    asyncio.run(case())


def test_two_machines_with_one_identity_are_noticed(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            first = await hub.node("drone-7")
            shutil.copytree(first.folder, tmp_path / "clone")
            clone = Identity(tmp_path / "clone")
            for identity, instance in ((first, "x"), (clone, "y")):
                await reported(identity, instance=instance)
            assert "cloned" not in hub.state.nodes["drone-7"]
            await reported(first, instance="x")
            assert "cloned" in hub.state.nodes["drone-7"]

    asyncio.run(case())


def test_a_hub_whose_certificate_ended_before_a_time_that_is_past_is_not_believed(tmp_path: Path) -> None:
    async def case(hub: Hub, identity: Identity) -> None:
        identity.floor_s = time.time() + 3 * 366 * 86400
        with pytest.raises(HubAway, match="ended before a time that is known to be past"):
            await reported(identity)

    async def run() -> None:
        async with hub_at(tmp_path) as hub:
            await case(hub, await hub.node("drone-7"))

    asyncio.run(run())


def test_a_node_whose_clock_is_years_behind_believes_its_hub_and_knows_the_time_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = certs._builder

    def later(x509: Any, issuer: Any, subject: Any, public: Any, kind: str, *now_s: float) -> Any:
        builder = built(x509, issuer, subject, public, kind, *now_s)
        if kind == "hub":  # by the clock of this machine it will be valid in ten years
            builder._not_valid_before += datetime.timedelta(days=3650)
            builder._not_valid_after += datetime.timedelta(days=3650)
        return builder

    monkeypatch.setattr(certs, "_builder", later)

    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            identity = await hub.node("drone-7")
            answer = await reported(identity)
            identity.heard(answer["time"])
            assert Identity(identity.folder).floor_s == answer["time"]
            with pytest.raises(ssl.SSLCertVerificationError, match="not yet valid"):
                await believing_its_clock(hub, identity)

    asyncio.run(case())


async def believing_its_clock(hub: Hub, identity: Identity) -> None:
    """What a client would do that asks its own clock."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(identity.folder / "authority.pem")
    host, _, port = hub.address.rpartition(":")
    await asyncio.open_connection(host, int(port), ssl=context, server_hostname=certs.HUB_NAME)


def test_the_latest_time_the_hub_said_is_remembered(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            identity = await hub.node("drone-7")
            identity.heard(5e9)
            identity.heard(4e9)
            assert Identity(identity.folder).floor_s == 5e9

    asyncio.run(case())


def test_a_code_fits_one_authority_and_survives_how_people_type() -> None:
    code, secret = make_code(bytes(range(32)))
    pinned, found = read_code(code.lower().replace("-", " "))
    assert found == secret and fits(bytes(range(32)), pinned) and not fits(bytes(32), pinned)
    for wrong in ("", "hello", code[:-1], code + "A"):
        with pytest.raises(FleetError, match="no enrolment code"):
            read_code(wrong)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("hub", "hub", 7443), ("https://hub:1/", "hub", 1), ("[fd00::1]:9", "fd00::1", 9), ("[fd00::1]", "fd00::1", 7443)],
)
def test_addresses_of_hubs(text: str, host: str, port: int) -> None:
    found = HubAddress.parse(text)
    assert (found.host, found.port) == (host, port)


@pytest.mark.parametrize("text", ["", ":1", "hub:x", "hub:0", "http://hub", "hub/path"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(FleetError, match="is no address of a hub"):
        HubAddress.parse(text)


def test_what_a_device_sends_under_a_name_that_another_one_had_is_new(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            for device, expected in (("a", 1), ("b", 2)):
                identity = await hub.node("drone-7", tmp_path / device)
                spool = Spool(tmp_path / device / "spool", identity.next_boot(), 1 << 20)
                spool.append(SpoolClass.EVENTS, "s", b"x", 1)
                with identity.client() as client:
                    await asyncio.to_thread(client.call, "/v1/records", spool.newest(1000)[0])
                assert hub.state.records("drone-7").counts == {"events": expected}

    asyncio.run(case())


def test_a_stranger_cannot_have_a_hub_keep_what_only_nodes_may_send(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            host, _, port = hub.address.rpartition(":")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
            writer.write(
                b"POST /v1/records HTTP/1.1\r\nHost: hub.thalweg\r\nContent-Length: 8000000\r\n\r\n" + bytes(1000)
            )
            assert (await reader.readline()).startswith(b"HTTP/1.1 413")
            writer.close()

    asyncio.run(case())


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode("latin-1") + body


ANSWERS = {
    "nothing": b"",
    "another protocol": b"SSH-2.0-x\r\n",
    "a list": http(b"\x91\x01"),
    "a map of something else": http(b"\x81\xa1x\x01"),
    "an authority that is a text": http(b"\x81\xa9authority\xa1x"),
    "an authority that is none": http(b"\x81\xa9authority\xc4\x01x"),
    "lists that claim to be long": http(b"\xdd\x00\x10\x00\x00" * 1000),
    "lists without end": http(b"\x91" * 100_000),
    "a time that there is not": http(b"\xc7\x0c\xff" + b"\xff" * 12),
    "half an answer": http(bytes(1000))[:-500],
    "chunks of no number": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a refusal nested without end": http(b"[" * 200_000, "500 X"),
    "a refusal of 5,000 digits": http(b'{"message": ' + b"9" * 5000 + b"}", "500 X"),
    "terminal commands": http(b"", "500 \x1b[2J\x1b]0;x\x07"),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_whatever_answers_in_place_of_a_hub_the_device_says_so_in_a_sentence(answer: bytes, tmp_path: Path) -> None:
    authority, key = certs.make_authority("x")
    own = certs.make_key()
    (tmp_path / "own.pem").write_bytes(
        certs.issue(authority, key, certs.make_request(own), certs.HUB_NAME, "hub")[0] + own
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async def case() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(FleetError) as refused:
            await asyncio.to_thread(enrol, tmp_path / "node", address, make_code(bytes(32))[0])
        server.close()
        assert str(refused.value).isprintable() and len(str(refused.value)) < 500
        assert not (tmp_path / "node").exists()

    asyncio.run(case())


def test_whoever_answers_one_byte_at_a_time_in_place_of_a_hub_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.deploy.fleet.node.asking.STRANGER_S", 0.5)

    near, far = socket.socketpair()

    def drip() -> None:
        far.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                far.sendall(b" ")
                time.sleep(0.05)

    def connect(connection: Any) -> None:
        connection.sock = near

    monkeypatch.setattr("thalweg.deploy.fleet.node.asking._Connection.connect", connect)
    thread = threading.Thread(target=drip)
    thread.start()
    with HubClient(HubAddress("localhost", 1), None, None, floor_s=lambda: 0.0) as client, pytest.raises(HubAway):
        client.call("/v1/authority", {})
    far.close()
    thread.join()
