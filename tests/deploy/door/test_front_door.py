"""What a request meets on its way in, over sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from tests.deploy.door.doors import PATIENCE_S, SETTINGS, a_server, answer, limited, read_answer, told
from thalweg.deploy.door.addresses import network_of
from thalweg.deploy.door.front_door import DoorSettings, FrontDoor
from thalweg.deploy.door.listening import listening
from thalweg.transports.grpc.tls import make_certificates

HOST = b"Host: localhost\r\n"
PAGE = "https://app.example.org"

Case = Callable[[FrontDoor, int], Awaitable[None]]


def run(case: Case, settings: DoorSettings = SETTINGS) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S), a_server(settings) as (door, port):
            await case(door, port)

    asyncio.run(main())


def get(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(body: bytes, *headers: str) -> bytes:
    lines = "".join(f"{header}\r\n" for header in (f"Content-Length: {len(body)}", *headers))
    return f"POST /echo HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode("latin-1") + body


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/nothing"), 404),
        (get("/fail"), 500),
        (b"DELETE /echo HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        (b"GET /echo HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET /echo HTTP/1.0\r\n\r\n", 421),
        (get("/echo", "Origin: http://evil.example"), 403),
        (get("/echo", "Origin: null"), 403),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /echo HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 400),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /echo HTTP/1.1\r\nHost: localhost\r\nA\x00B: c\r\n\r\n", 400),
        (b"GET /echo HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400),
        (get("/echo", "Expect: a miracle"), 417),
        (post(b"x" * 1001), 413),
        (post(b"\xff\xfe"), 400),
        (post(b"x", "Content-Type: text/plain; charset=bogus"), 415),
        (post(b"x", "Content-Type: text/plain; charset=utf-16"), 415),
        (post(b"x", "Content-Encoding: gzip"), 415),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ],
)
def test_whatever_is_refused_is_refused_in_json_with_the_headers_of_every_answer(
    request_bytes: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def case(door: FrontDoor, port: int) -> None:
        found, headers, body = await answer(port, request_bytes)
        assert found == status
        assert told(body)["error"] and told(body)["message"]
        assert headers["content-type"].startswith("application/json")
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["server"] == "thalweg"
        assert (await answer(port, get("/echo")))[0] == 200

    run(case)
    assert "swordfish" not in caplog.text and "Traceback" not in caplog.text


def test_a_name_that_is_not_known_is_refused_with_what_every_kind_of_server_may_be_told() -> None:
    async def case(door: FrontDoor, port: int) -> None:
        _, _, body = await answer(port, b"GET /echo HTTP/1.1\r\nHost: metrics.example\r\n\r\n")
        assert "add it to THALWEG_HOST_NAME" in told(body)["message"]

    run(case)


@pytest.mark.parametrize("start", [b"", b"POST /echo HTTP/1.1\r\nHost: localhost\r\nX-A: "])
def test_half_a_request_is_sent_away_when_its_time_is_over(start: bytes) -> None:
    async def case(door: FrontDoor, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(start)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        assert door.keeper.connections == 0
        writer.close()

    run(case)


def test_drops_of_a_header_do_not_buy_time() -> None:
    async def case(door: FrontDoor, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /echo HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and not writer.is_closing():
                writer.write(b"X: y\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
        assert door.keeper.counts["slow_waiting"] == 1
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    run(case)


def test_half_a_body_is_told_so_and_gone() -> None:
    async def case(door: FrontDoor, port: int) -> None:
        found, _, body = await answer(port, b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\nabc")
        assert (found, told(body)["error"]) == (408, "slow")

    run(case)


@pytest.mark.parametrize(
    ("token", "head", "status"),
    [
        ("", "Content-Length: 1001", 413),
        ("", "Transfer-Encoding: chunked", 413),
        ("", "Content-Length: 1000", 408),
        ("X-Known: yes\r\n", "Content-Length: 5000", 408),
        ("X-Known: yes\r\n", "Content-Length: 5001", 408),
    ],
)
def test_of_a_stranger_nothing_is_kept_that_only_others_may_send(token: str, head: str, status: int) -> None:
    async def main() -> None:
        settings = replace(SETTINGS, known_body_bytes=5000)
        async with a_server(settings, lambda request: "X-Known" in request.headers) as (_, port):
            start = f"POST /echo HTTP/1.1\r\nHost: localhost\r\n{token}{head}\r\n\r\n".encode()
            assert (await answer(port, start + b"1"))[0] == status  # before the rest has come, or for want of it

    asyncio.run(main())


def test_a_server_takes_no_more_connections_than_half_of_what_its_process_may_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("thalweg.deploy.door.listening.resource.getrlimit", lambda which: (64, 1024))

    async def case(door: FrontDoor, port: int) -> None:
        assert (door.keeper.limits.connections, door.keeper.limits.per_address) == (32, 16)

    run(case, limited(connections=2000, per_address=128))


def test_an_answer_that_nobody_takes_is_given_up() -> None:
    async def case(door: FrontDoor, port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(get("/much"))
        while not door.keeper.counts["slow_answered"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert door.keeper.connections == 0
        writer.transport.abort()

    run(case)


def test_an_address_that_holds_its_share_of_half_requests_loses_one_to_its_next_request() -> None:
    async def case(door: FrontDoor, port: int) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        while door.keeper.connections < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert (await answer(port, get("/echo")))[0] == 200
        with contextlib.suppress(ConnectionError):
            await held[0][0].read()
        assert door.keeper.connections <= 3
        for _, one in held:
            one.close()

    run(case, limited(per_address=3, header_s=30.0))


def test_two_requests_over_one_connection_are_both_answered_and_then_it_is_not_kept_for_ever() -> None:
    async def case(door: FrontDoor, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(get("/echo"))
            assert (await read_answer(reader))[0] == 200
        with contextlib.suppress(ConnectionError):
            await reader.read()
        assert door.keeper.connections == 0
        writer.close()

    run(case)


def test_a_page_of_an_origin_that_was_named_may_ask_and_read_the_answer() -> None:
    async def case(door: FrontDoor, port: int) -> None:
        asks = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,content-type")
        preflight = get("/offer", f"Origin: {PAGE}", *asks).replace(b"GET", b"OPTIONS")
        found, headers, _ = await answer(port, preflight)
        assert found == 204
        assert headers["access-control-allow-origin"] == PAGE
        assert "POST" in headers["access-control-allow-methods"]
        assert {"authorization", "content-type"} <= set(headers["access-control-allow-headers"].lower().split(", "))
        for path, status in (("/echo", 200), ("/nothing", 404)):
            found, headers, _ = await answer(port, get(path, f"Origin: {PAGE}"))
            assert (found, headers["access-control-allow-origin"]) == (status, PAGE)
            assert "Location" in headers["access-control-expose-headers"]
            assert headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in headers

    run(case, replace(SETTINGS, origins=(PAGE,)))


def test_a_page_of_any_other_origin_gets_no_leave() -> None:
    async def case(door: FrontDoor, port: int) -> None:
        preflight = get("/echo", "Origin: https://evil.example", "Access-Control-Request-Method: POST")
        found, headers, _ = await answer(port, preflight.replace(b"GET", b"OPTIONS"))
        assert found == 403 and "access-control-allow-origin" not in headers

    run(case, replace(SETTINGS, origins=(PAGE,)))


def test_behind_a_trusted_proxy_people_are_told_apart_by_what_it_says() -> None:
    async def case(door: FrontDoor, port: int) -> None:
        for _ in range(30):
            found, _, body = await answer(port, get("/echo", "X-Forwarded-For: 1.1.1.1, 203.0.113.9"))
        assert found == 429
        found, _, body = await answer(port, get("/echo", "X-Forwarded-For: 2001:db8::7"))
        assert (found, told(body)["from"]) == (200, "2001:db8::/64")

    run(case, replace(limited(requests_per_s=0.5, per_address=1), proxies=(network_of("127.0.0.1"),)))


def test_somebody_who_is_no_proxy_cannot_say_to_be_somebody_else() -> None:
    async def case(door: FrontDoor, port: int) -> None:
        _, _, body = await answer(port, get("/echo", "X-Forwarded-For: 203.0.113.9"))
        assert told(body)["from"] == "127.0.0.1"

    run(case)


def test_who_never_begins_with_tls_holds_a_place_and_loses_it(tmp_path: Path) -> None:
    made = make_certificates()
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(made.certificate)
    key.write_bytes(made.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)

    async def main() -> None:
        door = FrontDoor(limited(connections=2, per_address=2, header_s=1.0))
        async with listening(door, door.application(), "127.0.0.1", 0, context) as port:
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            for reader, writer in silent:
                with contextlib.suppress(ConnectionError):
                    await reader.read()
                writer.close()
            while door.keeper.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            assert door.keeper.counts["displaced"] == 1
            url = f"https://127.0.0.1:{port}/"
            async with aiohttp.ClientSession() as http, http.get(url, ssl=False) as response:
                assert response.status == 404

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await main()

    asyncio.run(bounded())


def test_a_server_whose_accepting_ends_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: object, sockets: object) -> None:
        raise RuntimeError("no more")

    monkeypatch.setattr("thalweg.deploy.door.listening.Listener.run", broken)

    async def scenario() -> None:
        async with a_server():
            await asyncio.sleep(PATIENCE_S)

    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="no more")):
        asyncio.run(scenario())


def test_what_goes_wrong_while_a_server_runs_is_raised_as_it_is() -> None:
    async def scenario() -> None:
        async with a_server():
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(scenario())
