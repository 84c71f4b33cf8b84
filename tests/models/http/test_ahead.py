"""Connections made ahead, to real servers with TLS on loopback: nothing is asked, and the question has no other."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import require_package
from tests.models.http.test_certificates import certificate
from thalweg.models.http import Address, HttpClient, HttpError, HttpErrorKind, client

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(autouse=True)
def _httpx() -> None:
    require_package("httpx", "language")


class Server:
    """Answers every question. `heads`: of each connection, the questions that came; `hangs_up`: behind the greeting."""

    def __init__(self) -> None:
        self.heads: list[list[bytes]] = []
        self.hangs_up = False
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(asked := [])
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while not self.hangs_up:
                asked.append(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(2)
                writer.write(OK)
                await writer.drain()
        if self.hangs_up:
            writer.transport.abort()
        writer.close()


async def ask(asking: HttpClient) -> str:
    async with asking.post("x", b"{}") as answer:
        return f"{answer.status} {await answer.text()}"


def met(
    case: Callable[[HttpClient, Server], Awaitable[None]], folder: Path | None, monkeypatch: pytest.MonkeyPatch
) -> Server:
    """The server behind a case; with TLS where there is a folder for its certificate."""
    server, tls = Server(), None
    if folder is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pem := certificate(folder))
        monkeypatch.setattr(client, "_trusting", lambda: ssl.create_default_context(cafile=str(pem)))

    async def main() -> None:
        listening = await asyncio.start_server(server.serve, "localhost", 0, ssl=tls)
        server.port = listening.sockets[0].getsockname()[1]
        scheme = "http" if folder is None else "https"
        asking = HttpClient(Address.parse(f"{scheme}://localhost:{server.port}"), key="sk-SECRET", connect_s=2.0)
        async with asyncio.timeout(20):
            await case(asking, server)
        await asking.close()
        listening.close()

    asyncio.run(main())
    return server


@pytest.mark.parametrize("tls", [True, False])
def test_nothing_is_asked_ahead_and_the_question_goes_over_the_connection_that_is_there(
    tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(asking: HttpClient, server: Server) -> None:
        assert [await asking.connect(), await asking.connect()] == [True, False]
        await asyncio.sleep(0.1)
        assert server.heads == [[]], "one connection, and not a byte of a request on it"
        assert await ask(asking) == "200 ok"
        assert not await asking.connect(), "the one that has answered is kept"
        assert await ask(asking) == "200 ok"

    (asked,) = met(case, tmp_path if tls else None, monkeypatch).heads
    assert [head.startswith(b"POST /x") for head in asked] == [True, True]


def test_a_question_waits_for_the_connection_that_is_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(asking: HttpClient, server: Server) -> None:
        connecting = asyncio.create_task(asking.connect())
        await asyncio.sleep(0)
        assert await ask(asking) == "200 ok"
        assert await connecting

    assert len(met(case, tmp_path, monkeypatch).heads) == 1


@pytest.mark.parametrize("looked_at", [True, False], ids=["seen", "not seen"])
def test_a_connection_that_was_hung_up_meanwhile_is_made_again(
    looked_at: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not looked_at:
        monkeypatch.setattr("thalweg.models.http.ahead._hung_up", lambda stream: False)

    async def case(asking: HttpClient, server: Server) -> None:
        server.hangs_up = True
        assert await asking.connect()
        await asyncio.sleep(0.1)
        server.hangs_up = False
        if looked_at:
            assert await asking.connect()
        assert await ask(asking) == "200 ok"

    assert [len(asked) for asked in met(case, tmp_path, monkeypatch).heads] == [0, 1]


def test_a_server_that_is_not_trusted_or_not_there_is_told_and_hears_no_key(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1000))
        writer.close()

    async def main() -> list[HttpError]:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate(tmp_path))
        server = await asyncio.start_server(listen, "localhost", 0, ssl=tls)
        errors = []
        asking = HttpClient(Address.parse(f"https://localhost:{server.sockets[0].getsockname()[1]}"), key="sk-SECRET")
        for _ in range(2):
            with pytest.raises(HttpError) as caught:
                await asking.connect()
            errors.append(caught.value)
            server.close()
        await asking.close()
        return errors

    untrusted, gone = asyncio.run(main())
    assert untrusted.kind is gone.kind is HttpErrorKind.UNREACHABLE
    assert "certificate cannot be trusted" in str(untrusted)
    assert "SECRET" not in f"{untrusted}{gone}"
    assert not any(heard)


def test_hanging_up_ends_what_is_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    class Listening(Server):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await super().serve(reader, writer)
            ended.set()

    monkeypatch.setattr("tests.models.http.test_ahead.Server", Listening)

    async def case(asking: HttpClient, server: Server) -> None:
        await asking.connect()
        await asking.close()
        await asking.close()
        await ended.wait()

    assert met(case, tmp_path, monkeypatch).heads == [[]]


def test_through_a_proxy_nothing_is_greeted_ahead() -> None:
    async def main() -> bool:
        environ = {"HTTPS_PROXY": "http://127.0.0.1:9"}
        asking = HttpClient(Address.parse("https://far.example"), environ=environ)
        try:
            return await asking.connect()
        finally:
            await asking.close()

    assert not asyncio.run(main())
