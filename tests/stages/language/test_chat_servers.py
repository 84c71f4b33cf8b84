"""`language.chat` against servers that are almost right, hostile, slow or chatty, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.conftest import require_package
from tests.stages.language.test_chat import HEAD, Ask, Handler, Tokens, answers, converse, event, is_busy
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.duration import MS
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.signal import Failure
from thalweg.stages.language.chat import Chat, LanguageModelError

DONE = b"data: [DONE]\n\n"


def sends(*parts: bytes, head: bytes = HEAD, stay: bool = False) -> Handler:
    """A server that sends `parts` and hangs up or stays."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[str, Any]) -> None:
        writer.write(head)
        for part in parts:
            writer.write(part)
            await writer.drain()
        if stay:
            await reader.read()

    return handle


def status(code: int, body: bytes = b"{}", headers: bytes = b"") -> Handler:
    head = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n" % (code, len(body)) + headers + b"\r\n"
    return sends(body, head=head)


def chunk(delta: Any, finish: Any = None) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": delta, "finish_reason": finish}]}).encode() + b"\n\n"


def test_thoughts_are_neither_said_nor_remembered() -> None:
    thinks = sends(event("<thi"), event("nk>hm, a greeting</th"), event("ink>\n\nHel"), event("lo", "stop"), DONE)
    replies, problems, asked = converse([thinks, answers], ("Hi?", "And?"))
    assert (replies, problems) == (["Hello.", "Hello."], [])
    assert [m["content"] for m in asked[1]["messages"][1:]] == ["Hi?", "Hello", "And?"]


def test_a_model_found_to_open_its_thoughts_without_a_mark_is_waited_for_from_the_next_turn_on() -> None:
    thinks = sends(event("hm, a greeting</think>"), event("Hel"), event("lo", "stop"), DONE)
    replies, problems, _ = converse([thinks, thinks], ("Hi?", "And?"))
    assert (replies[1], problems) == ("Hello.", [])


def test_half_an_emoji_does_not_end_the_conversation() -> None:
    halves = sends(event("Hi \ud83d"), event("\ude00"), event("\ud83d"), event("", "stop"), DONE)
    replies, problems, asked = converse([halves, answers], ("Hi?", "And?"))
    assert (replies, problems) == (["Hi 😀\ufffd.", "Hello."], [])
    assert asked[1]["messages"][2]["content"] == "Hi 😀\ufffd"


def test_a_server_that_stays_behind_the_last_word_is_not_waited_for() -> None:
    assert converse([sends(event("Hello", "stop"), stay=True)], timeout_ns=5_000 * MS)[:2] == (["Hello."], [])
    assert converse([sends(event("Hello"), DONE, stay=True)], timeout_ns=5_000 * MS)[:2] == (["Hello."], [])


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (sends(event("Hel"), b'data: {"error": "CUDA out of memory"}\n\n'), "reports an error: CUDA out of memory"),
        (sends(event("Hel"), b"1\r\n"), "broke off in the middle of its answer: 1"),
        (sends(chunk({"reasoning": "hm"}), chunk({}, "length"), DONE), "spent all of its 96 tokens on thinking"),
        (sends(chunk({}, "content_filter"), DONE), "content filter"),
        (sends(b"<html><p>Please sign in</p>"), "a web page in place of an answer: Please sign in"),
        (sends(b"data: " + b"x" * 2_000_000), "a line of more than 1000 kB"),
        (status(401), "no key was sent: OPENAI_API_KEY is not set"),
        (status(404, b'{"error": {"message": "no such model"}}'), "refused with status 404: no such model"),
        (status(502, b"<html>\x1b[2J<h1>Bad gateway</h1>"), "refused with status 502: [2J Bad gateway"),
        (
            status(307, b"", b"Location: http://127.0.0.1:9/v1?key=x\r\n"),
            "sends on to another address (http://127.0.0.1:9)",
        ),
        (status(429, b"{}", b"Retry-After: 86400\r\n"), "refused with status 429"),
    ],
)
def test_what_a_server_says_in_place_of_an_answer_is_told_once_and_the_next_turn_works(
    handler: Handler, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    replies, (problem,), asked = converse([handler, answers], ("Hi?", "And?"))
    assert said in problem
    assert replies[-1] == "Hello."
    assert len(asked) == 2


def test_an_answer_longer_than_was_asked_for_is_cut_and_hung_up_on() -> None:
    replies, problems, _ = converse([sends(*[event(f"word{i} ") for i in range(1000)], stay=True)])
    assert problems == []
    assert len(replies[0]) == 16 * 96 + 1


def test_an_answer_that_goes_round_in_circles_is_stopped_and_remembered_once() -> None:
    circles = sends(*[event("The sky is blue. ")] * 200, stay=True)
    replies, problems, asked = converse([circles, answers], ("Hi?", "And?"))
    assert problems == []
    assert replies == ["The sky is blue. " * 3 + ".", "Hello."]
    assert asked[1]["messages"][2]["content"] == "The sky is blue. "


def test_a_conversation_that_is_too_long_for_the_model_is_shortened() -> None:
    too_long = status(400, b'{"error": {"message": "request exceeds the available context size"}}')
    replies, problems, asked = converse([answers, answers, too_long, answers], ("a?", "b?", "c?"))
    assert (replies, problems) == (["Hello."] * 3, [])
    assert [m["content"] for m in asked[3]["messages"][1:]] == ["b?", "Hello", "c?"]


def test_a_server_that_names_what_it_does_not_take_is_asked_without_it() -> None:
    picky = status(400, b'{"error": {"message": "Use max_completion_tokens instead."}}')
    replies, problems, asked = converse([picky, answers, answers], ("Hi?", "And?"))
    assert (replies, problems) == (["Hello."] * 2, [])
    assert ["max_tokens" in body for body in asked] == [True, False, False]


def test_a_server_that_is_busy_in_the_stream_is_asked_again() -> None:
    busy = sends(b'data: {"error": {"message": "try later", "code": 503}}\n\n')
    assert converse([busy, is_busy, answers])[:2] == (["Hello."], [])


def test_once_something_was_said_a_server_is_not_asked_again() -> None:
    busy = sends(event("Hel"), b'data: {"error": {"message": "try later", "code": 503}}\n\n')
    _, (problem,), asked = converse([busy])
    assert "try later" in problem
    assert len(asked) == 1


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5h://127.0.0.1:9"])
def test_no_proxy_variable_cuts_off_a_server_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, name: str, proxy: str
) -> None:
    monkeypatch.setenv(name, proxy)
    assert converse([answers])[:2] == (["Hello."], [])


def opening(**settings: Any) -> LanguageModelError:
    """What opening a chat raises."""
    require_package("httpx", "language")

    async def main() -> None:
        chat = Chat(**settings)
        try:
            await chat.open(None)  # type: ignore[arg-type]  # not looked at
        finally:
            await chat.close()

    with pytest.raises(LanguageModelError) as caught:
        asyncio.run(main())
    return caught.value


@pytest.mark.parametrize("key", ["sk-SECRET\n", "\u201csk-SECRET\u201d", "sk SECRET"])
def test_a_key_that_is_none_is_refused_before_anything_runs_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    error = opening(url="http://127.0.0.1:9/v1")
    assert "the key in OPENAI_API_KEY" in str(error)
    assert "SECRET" not in str(error) + error.public


def test_a_pipeline_file_gets_no_other_secret_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-hunter2")
    error = opening(url="http://127.0.0.1:9/v1", api_key_env="AWS_SECRET_ACCESS_KEY")
    assert "does not look like the key of a model server" in str(error)
    assert "hunter2" not in str(error)


def test_a_model_that_is_not_in_the_store_is_refused_with_the_reason() -> None:
    assert "no-such-model" in str(opening(model="no-such-model"))


def test_the_person_is_told_a_sentence_without_the_inside() -> None:
    require_package("httpx", "language")
    graph = Graph(name="chat")
    sink = Tokens()
    graph.add("ask", Ask(("Hi?",)))
    graph.add("chat", Chat(url="http://127.0.0.1:9/v1", retries=0))
    graph.add("sink", sink)
    graph.connect("ask", "chat")
    graph.connect("chat", "sink")
    asyncio.run(Worker(graph).run())
    (failure,) = (signal for signal in sink.signals if isinstance(signal, Failure))
    assert failure.public == "The language model cannot be reached at the moment."
    assert "127.0.0.1:9" in failure.message
