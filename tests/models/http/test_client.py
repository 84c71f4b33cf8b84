"""The client against real servers on loopback, and what it says where there is none."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from tests.conftest import require_package
from thalweg.models.http import Address, HttpClient, HttpError, HttpErrorKind
from thalweg.models.http import client as client_module
from thalweg.models.http.proxies import proxy_variable

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(autouse=True)
def _httpx() -> None:
    require_package("httpx", "language")


def ask(answer: bytes, times: int = 1, *, close: bool = True) -> tuple[list[str], list[bytes]]:
    """What came of asking a server that sends `answer`, and what it was asked."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                heads.append(head + await reader.readexactly(2))
                writer.write(answer)
                await writer.drain()
                if close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def main() -> list[str]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = HttpClient(Address.parse(f"http://127.0.0.1:{port}/v1"), key="sk-SECRET")
        told = []
        async with asyncio.timeout(10):
            for _ in range(times):
                try:
                    async with client.post("x", b"{}") as got:
                        told.append(f"{got.status} {await got.text(1000)}")
                except HttpError as error:
                    told.append(f"{error.kind.value}: {error}")
            await client.close()
        server.close()
        return told

    return asyncio.run(main()), heads


def test_an_answer_is_read_and_the_key_goes_along() -> None:
    told, (head,) = ask(OK)
    assert told == ["200 ok"]
    assert b"authorization: bearer sk-secret" in head.lower()
    assert b"accept-encoding: identity" in head.lower()


@pytest.mark.parametrize("where", [b"http://127.0.0.1:1/v1", b"https://evil.example/", b"/elsewhere", b"", b"\xff\xfe"])
def test_no_redirect_is_followed(where: bytes) -> None:
    (told,), heads = ask(b"HTTP/1.1 307 X\r\nLocation: " + where + b"\r\nContent-Length: 0\r\n\r\n")
    assert told.startswith("redirected: sends on to another address")
    assert len(heads) == 1


def test_a_small_answer_cannot_become_a_large_one() -> None:
    packed = gzip.compress(b"\0" * 10_000_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    (told,), _ = ask(head + packed)
    assert told.startswith("no answer: packs its answer (gzip)")


def test_an_answer_without_an_end_is_read_as_far_as_asked_for() -> None:
    (told,), _ = ask(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000_000)
    assert len(told) == len("200 ") + 1000


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", "unreachable"),
        (b"nonsense\r\n\r\n", "unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "broke off"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 200_000 + b"\r\n\r\n", "unreachable"),
    ],
)
def test_what_is_not_http_is_told_in_words(answer: bytes, kind: str) -> None:
    (told,), _ = ask(answer)
    assert told.startswith(kind)
    assert "SECRET" not in told


@pytest.mark.parametrize(
    ("begun", "more", "kind"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "unreachable"),
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", "unreachable"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b" ", "broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", "broke off"),
    ],
)
def test_a_server_that_never_ends_drop_by_drop_is_given_up(
    begun: bytes, more: bytes, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "WHOLE", 0.02)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(begun)
            while not writer.is_closing():
                writer.write(more)
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()

    async def main() -> HttpError:
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        client = HttpClient(Address.parse(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), read_s=30.0)
        with pytest.raises(HttpError, match=r"took longer than 0\.6 s for its answer") as caught:
            async with asyncio.timeout(20), client.post("x", b"{}") as got:
                await got.text()
        await client.close()
        server.close()
        return caught.value

    assert asyncio.run(main()).kind.value == kind


def test_a_connection_that_the_server_has_closed_meanwhile_is_made_anew() -> None:
    told, heads = ask(OK, times=3)
    assert told == ["200 ok"] * 3
    assert len(heads) == 3


def test_cookies_are_not_kept() -> None:
    _, heads = ask(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b\r\n\r\n"), times=2, close=False)
    assert not any(b"cookie:" in head.lower() for head in heads)


def problem(url: str, key: str | None = None) -> HttpError:
    async def main() -> None:
        client = HttpClient(Address.parse(url), key=key, connect_s=2)
        try:
            async with client.post("x", b"{}"):
                pass
        finally:
            await client.close()

    with pytest.raises(HttpError) as caught:
        asyncio.run(main())
    return caught.value


def test_a_server_that_is_not_there_cannot_be_reached() -> None:
    assert problem("http://127.0.0.1:9").kind is HttpErrorKind.UNREACHABLE


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "socks5h://127.0.0.1:9", "nonsense://x"]
)
def test_no_proxy_stands_between_us_and_this_machine(monkeypatch: pytest.MonkeyPatch, name: str, proxy: str) -> None:
    monkeypatch.setenv(name, proxy)
    assert ask(OK)[0] == ["200 ok"]


@pytest.mark.parametrize("proxy", ["socks5://me:SECRET@127.0.0.1:9", "nonsense://me:SECRET@x"])
def test_a_proxy_that_cannot_be_used_is_said_in_one_sentence_without_its_password(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    error = problem("http://model.example")
    assert error.kind is HttpErrorKind.SETTINGS
    assert "ALL_PROXY" in str(error)
    assert "NO_PROXY=model.example" in str(error)
    assert "SECRET" not in str(error)


def test_a_proxy_for_other_machines_is_used_and_named_where_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert "through the proxy that http_proxy names" in str(problem("http://model.example"))


@pytest.mark.parametrize(
    ("url", "environ", "variable"),
    [
        ("http://model.example", {}, None),
        ("http://model.example", {"http_proxy": "http://p"}, "http_proxy"),
        ("https://model.example", {"http_proxy": "http://p"}, None),
        ("https://model.example", {"HTTPS_PROXY": "http://p"}, "HTTPS_PROXY"),
        ("https://model.example", {"ALL_PROXY": "socks5://p"}, "ALL_PROXY"),
        ("http://model.example", {"http_proxy": "http://p", "no_proxy": "model.example"}, None),
        ("http://a.model.example", {"http_proxy": "http://p", "NO_PROXY": ".model.example"}, None),
        ("http://127.0.0.1", {"http_proxy": "http://p", "ALL_PROXY": "http://p"}, None),
        ("http://[::1]:8", {"http_proxy": "http://p"}, None),
        ("http://localhost", {"ALL_PROXY": "socks5://p"}, None),
    ],
)
def test_a_proxy_is_taken_for_other_machines_that_are_not_excepted(
    url: str, environ: dict[str, str], variable: str | None
) -> None:
    assert proxy_variable(Address.parse(url), environ) == variable
