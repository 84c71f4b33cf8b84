"""What a client asks of a server, and what it keeps to itself."""

from __future__ import annotations

import asyncio
import json

import pytest

from thalweg.transports.webrtc.client import Talker
from thalweg.transports.webrtc.signalling import Signalling, TalkError


@pytest.mark.parametrize(
    ("url", "insecure"),
    [("http://10.9.9.1:8080", False), ("https://10.9.9.1", True), ("http://localhost.evil.example", False)],
)
def test_a_token_is_not_given_to_anybody_who_listens(url: str, insecure: bool) -> None:
    with pytest.raises(TalkError, match="a token is not sent") as refused:
        Signalling(url, "sesame", insecure=insecure)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["http://localhost:1", "https://127.0.0.1:1", "http://[::1]:1", "https://chat.example.org"]
)
def test_a_token_stays_on_this_machine_or_goes_over_tls_that_is_verified(url: str) -> None:
    Signalling(url, "sesame")


def test_a_token_with_a_line_end_is_refused_without_being_shown() -> None:
    with pytest.raises(TalkError, match="no header takes") as refused:
        Signalling("https://chat.example.org", "sesame\n")
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("chat.example", "did you mean http://chat.example\\?"),
        ("ftp://chat.example", "expected http://HOST:PORT"),
        ("http://", "expected"),
    ],
)
def test_what_is_no_address_is_refused_with_what_it_should_be(url: str, remedy: str) -> None:
    with pytest.raises(TalkError, match=remedy):
        Signalling(url)


async def answering(reply: bytes) -> TalkError:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        with pytest.raises(TalkError) as refused:
            await Signalling(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}").offer({"sdp": "v=0"})
        return refused.value
    finally:
        server.close()


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [("", 1.0), ("3", 3.0), ("0", 0.2), ("3600", 10.0), ("9" * 400, 1.0), ("-1", 1.0), ("soon", 1.0)],
)
def test_a_server_says_when_to_try_again_within_bounds(said: str, wait_s: float) -> None:
    head = f"503 Busy\r\nRetry-After: {said}" if said else "503 Busy"
    assert asyncio.run(answering(http(b"{}", head))).wait_s == wait_s


@pytest.mark.parametrize(
    ("told", "resume_s"),
    [("90", 90.0), ("0", 0.0), ("1e12", 86_400.0), ("-1", 60.0), ("NaN", 60.0), ("true", 60.0), ('"90"', 60.0)],
)
def test_a_server_says_for_how_long_a_conversation_is_kept_a_day_at_most(
    told: str, resume_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Signalling("http://localhost:1")

    async def answered(*_: object) -> tuple[int, object]:
        return 200, json.loads(f'{{"sdp": "v=0", "session": "a", "key": "b", "resume_s": {told}}}')

    monkeypatch.setattr(server, "ask", answered)
    assert asyncio.run(server.offer({"sdp": "v=0"})).resume_s == resume_s


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"nonsense\r\n\r\n",
        http(b"[1]"),
        http(b"{"),
        http(b"[" * 60_000),
        http(b'{"sdp": 1, "session": "a", "key": "b"}'),
        http(b'{"sdp": "v=0", "session": "../../x?y=", "key": "b"}'),
        http(b"x" * 300_000),
        http(b"", "302 Found\r\nLocation: http://evil.example/"),
        http(json.dumps({"error": "busy\x1b]0;x\x07", "message": "m\x1b[2J"}).encode(), "503 Busy"),
    ],
)
def test_whatever_a_server_answers_is_bounded_and_printable(reply: bytes) -> None:
    error = asyncio.run(answering(reply))
    assert str(error).isprintable() and len(str(error)) < 500
    assert error.code.isprintable()


@pytest.mark.parametrize(
    "message",
    [
        "[1,2]",
        "{{{",
        '{"a": 1}',
        '{"v":1,"type":"latency","turn":1,"played_ms":"x"}',
        b"\xff\xfe",
        "[" * 50_000,
        '{"type": 1}',
    ],
)
def test_what_is_no_event_is_counted_and_the_next_one_is_heard(message: str | bytes) -> None:
    async def case() -> None:
        talker = Talker("http://localhost:1")
        talker._message(message, talker._channel)
        talker._message('{"v":1,"type":"bye","code":"a","message":"b"}', talker._channel)
        assert talker.bad_events == 1
        assert [event["code"] for _, event in talker.events] == ["a"]
        assert talker.ended.is_set()

    asyncio.run(case())


def test_a_server_that_tells_more_than_anybody_keeps_is_left() -> None:
    async def case() -> None:
        talker = Talker("http://localhost:1")
        answer = json.dumps({"v": 1, "type": "answer", "turn": 1, "text": "x" * 200_000, "last": False})
        for _ in range(400):
            if not talker.lost:
                talker._message(answer, talker._channel)
        assert talker.lost and talker.ended.is_set()
        assert sum(len(event["text"]) for _, event in talker.events) < 70_000_000

    asyncio.run(case())


def test_a_server_that_sends_nothing_but_nonsense_is_left() -> None:
    async def case() -> None:
        talker = Talker("http://localhost:1")
        for _ in range(200):
            talker._message("{{{", talker._channel)
        assert talker.lost and talker.ended.is_set()

    asyncio.run(case())
