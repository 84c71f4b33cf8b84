"""Recognition by a server: what it is sent, what is made of its answers, and what is said where it has none."""

from __future__ import annotations

import asyncio
import email
import email.policy
import io
import json
import threading
import wave
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.conftest import require_package
from thalweg import AudioChunk, Packet, Speech, SpeechEvent, Transcript
from thalweg.deploy.testing import packet
from thalweg.models.errors import ModelError
from thalweg.models.speech.transcription import Events, TranscriptionServer, form, wav
from thalweg.stages.speech.openai import OpenAITranscription

VOICE = np.sin(np.arange(8_000) / 20).astype(np.float32) / 4


@dataclass
class Server:
    """Answers with what it is given, one after the other; keeps what it was asked."""

    answers: list[tuple[int, str, bytes]]
    url: str = ""
    asked: list[dict[str, bytes]] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    require_package("httpx", "language")
    held = Server([])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            held.heads.append({"path": self.path, "authorization": self.headers.get("Authorization", "")})
            held.asked.append(parts(self.headers["Content-Type"], body))
            status, kind, said = held.answers.pop(0)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    held.url = f"http://127.0.0.1:{listening.server_port}/v1"
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
    thread.start()
    yield held
    listening.shutdown()
    thread.join()
    listening.server_close()


def parts(kind: str, body: bytes) -> dict[str, bytes]:
    """A form as Python's own parser reads it."""
    head = f"Content-Type: {kind}\r\nMIME-Version: 1.0\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    found: dict[str, bytes] = {}
    for part in message.iter_parts():  # type: ignore[attr-defined]
        found[part.get_param("name", header="content-disposition")] = part.get_payload(decode=True)
    return found


def turn(epoch: int = 1) -> list[Packet]:
    first = Speech(audio=AudioChunk(samples=VOICE, rate=16_000), event=SpeechEvent.START)
    nothing = AudioChunk(samples=np.zeros(0, np.float32), rate=16_000)
    last = Speech(audio=nothing, event=SpeechEvent.END, speech_end_ns=400_000_000)
    return [packet(first, epoch=epoch), packet(last, time=500_000_000, epoch=epoch)]


class Told:
    """What the stage says."""

    stale = False

    def __init__(self) -> None:
        self.said: list[Transcript] = []

    def emit(self, payload: Transcript) -> None:
        self.said.append(payload)


def hear(stage: OpenAITranscription, packets: list[Packet]) -> list[Transcript]:
    """What it makes of them, on a loop that really waits. Raises what it raises."""

    async def run() -> list[Transcript]:
        told: Any = Told()
        await stage.open(told)
        try:
            async with asyncio.timeout(20):
                for each in packets:
                    await stage.process(each, told)
        finally:
            await stage.close()
        return told.said  # type: ignore[no-any-return]

    return asyncio.run(run())


def said(text: str) -> tuple[int, str, bytes]:
    return 200, "application/json", json.dumps({"text": text}).encode()


@pytest.mark.real
def test_a_turn_is_sent_as_a_form_and_its_text_is_final(server: Server) -> None:
    server.answers = [said(" What is it? ")]
    found = hear(OpenAITranscription(server.url, "large", "de", ("Ruhr", "Öl")), turn())
    assert [(t.text, t.final, t.stable_chars, t.language, t.speech_end_ns) for t in found] == [
        ("What is it?", True, 11, "de", 400_000_000)
    ]
    (asked,) = server.asked
    assert server.heads[0]["path"] == "/v1/audio/transcriptions"
    sound = asked.pop("file")
    assert {name: value.decode() for name, value in asked.items()} == {
        "model": "large", "response_format": "json", "temperature": "0", "language": "de", "prompt": "Ruhr, Öl",
    }  # fmt: skip
    with wave.open(io.BytesIO(sound)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16_000, 1, len(VOICE))


@pytest.mark.real
def test_text_is_shown_while_it_is_made_where_the_server_streams(server: Server) -> None:
    events = [{"type": "transcript.text.delta", "delta": each} for each in ("Hel", "lo", " there")]
    whole = [*events, {"type": "transcript.text.done", "text": "Hello there."}]
    server.answers = [(200, "text/event-stream", b"".join(b"data: %s\n\n" % json.dumps(e).encode() for e in whole))]
    found = hear(OpenAITranscription(server.url, language="auto", stream=True), turn())
    assert found[-1].text == "Hello there." and found[-1].final
    assert all("Hello there".startswith(t.text) and not t.final for t in found[:-1])
    assert server.asked[0]["stream"] == b"true" and "language" not in server.asked[0]


@pytest.mark.real
def test_a_busy_server_is_asked_once_more(server: Server) -> None:
    server.answers = [(503, "application/json", b'{"error": {"message": "later"}}'), said("yes")]
    assert [t.text for t in hear(OpenAITranscription(server.url), turn())] == ["yes"]


@pytest.mark.real
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((400, "application/json", b'{"error": {"message": "no model"}}'), "refused with status 400: no model"),
        ((200, "text/html", b"<html>hello</html>"), "answers with text/html, not with a transcript"),
        ((200, "application/json", b'{"txt": 1}'), "answers without a text"),
        ((200, "application/json", b"[" * 100_000), "answers without a text"),
        ((200, "text/event-stream", b"data: {\n\n"), "sends what is no event"),
        ((200, "text/event-stream", b'data: {"type": "transcript.text.delta", "delta": "a"}\n\n'), "broke off"),
        ((200, "text/event-stream", b'data: {"error": {"message": "out of memory"}}\n\n'), "broke off: out of memory"),
        ((302, "text/plain", b""), "sends on to another address"),
    ],
)  # fmt: skip
def test_what_is_no_transcript_fails_the_turn_with_one_message(
    server: Server, answer: tuple[int, str, bytes], message: str
) -> None:
    server.answers = [answer]
    with pytest.raises(ModelError, match=message):
        hear(OpenAITranscription(server.url), turn())


@pytest.mark.real
def test_a_server_that_is_not_there_is_named(server: Server) -> None:
    with pytest.raises(ModelError, match=r"the recogniser at http://127\.0\.0\.1:9/v1 cannot be reached"):
        hear(OpenAITranscription("http://127.0.0.1:9/v1"), turn())


@pytest.mark.real
def test_the_key_goes_where_it_may(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_API_KEY", "sk-house")
    server.answers = [said("x"), said("y")]
    hear(OpenAITranscription(server.url, api_key_env="HOUSE_API_KEY"), turn())
    hear(OpenAITranscription(server.url, api_key_env=""), turn())
    assert [head["authorization"] for head in server.heads] == ["Bearer sk-house", ""]


@pytest.mark.parametrize("url", ["", "ftp://x", "http://user:pw@host/v1", "not an address"])
def test_an_address_that_is_none_is_refused_where_the_file_is_read(url: str) -> None:
    from thalweg.pipeline.file.catalog import find_stage

    with pytest.raises(ValidationError):
        find_stage("speech.openai").check({"url": url})


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_events_may_come_in_pieces_of_any_size(size: int) -> None:
    data = (
        b": ping\n\ndata: "
        + json.dumps({"choices": [{"delta": {"content": "grün"}}]}).encode()
        + b'\r\n\r\nevent: x\ndata: {"choices": [{"delta": {}}]}\n\ndata: [DONE]\n\n'
    )
    events = Events()
    for at in range(0, len(data), size):
        events.feed(data[at : at + size])
    assert (events.text, events.done) == ("grün", True)


def test_events_without_an_end_are_bounded() -> None:
    events = Events()
    with pytest.raises(ModelError, match="more than 65536 characters"):
        events.feed(b"x" * 70_000)


def test_a_form_keeps_every_byte_of_a_file() -> None:
    file = bytes(range(256)) * 10 + b"\r\n--thalweg\r\n"
    body, kind = form(file, {"prompt": 'a "b"\nc'})
    assert parts(kind, body)["file"] == file


def test_samples_beyond_full_scale_are_cut_off() -> None:
    with wave.open(io.BytesIO(wav(np.array([2.0, -2.0, 0.5], np.float32)))) as file:
        assert np.frombuffer(file.readframes(3), "<i2").tolist() == [32767, -32767, 16383]


def test_state_moves_in_the_middle_of_a_turn() -> None:
    stage, other = OpenAITranscription("http://127.0.0.1:9/v1"), OpenAITranscription("http://127.0.0.1:9/v1")
    told: Any = Told()
    asyncio.run(stage.process(turn()[0], told))
    other.restore(stage.snapshot())
    assert np.array_equal(other.snapshot()["samples"], VOICE)
    assert isinstance(TranscriptionServer("http://[::1]:1/v1").name, str)
