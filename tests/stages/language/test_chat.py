"""The language model stage against real HTTP servers that refuse, hang, answer garbage and die."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.conftest import require_package
from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import Collect, packet, run_stage
from thalweg.pipeline.duration import MS
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.payload import Token, Transcript
from thalweg.pipeline.signal import Interrupt
from thalweg.pipeline.stage import Context, Port
from thalweg.stages.language.chat import Chat

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, dict[str, Any]], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[str, Any]) -> None:
    writer.write(HEAD + event("Hel") + event("lo", "stop") + b"data: [DONE]\n\n")


async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[str, Any]) -> None:
    writer.write(HEAD + event("Hel"))


async def garbles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[str, Any]) -> None:
    writer.write(HEAD + b"data: {this is not json\n\n")


async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[str, Any]) -> None:
    body = b'{"error": {"message": "no such model"}}'
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
    writer.write(body)


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[str, Any]) -> None:
    await reader.read()


async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[str, Any]) -> None:
    writer.write(HEAD + event("Hel"))
    await writer.drain()
    await reader.read()


async def is_busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[str, Any]) -> None:
    writer.write(b"HTTP/1.1 503 Service Unavailable\r\nretry-after-ms: 1\r\nContent-Length: 0\r\n\r\n")


class Ask:
    """Asks questions, each a turn of its own; with `interrupt`, the second one 0.1 s into the first."""

    outputs = {"transcript": Transcript}

    def __init__(self, questions: tuple[str, ...], interrupt: bool = False) -> None:
        self.questions = questions
        self.interrupt = interrupt

    async def run(self, ctx: Context) -> None:
        for question in self.questions:
            epoch = ctx.new_epoch()
            if self.interrupt:
                ctx.signal(Interrupt(origin=ctx.name, epoch=epoch))
            await ctx.send(Transcript(text=question, final=True), time=ctx.now_ns(), epoch=epoch)
            if self.interrupt:
                await asyncio.sleep(0.1)


class Tokens(Collect):
    inputs = {"token": Port(Token)}


def converse(
    handlers: list[Handler],
    questions: tuple[str, ...] = ("Hi?",),
    interrupt: bool = False,
    timeout_ns: int = 8_000 * MS,
    prefill: bool = False,
) -> tuple[list[str], list[str], list[dict[str, Any]]]:
    """Replies by turn, problems, and what the server was asked; each question meets the next handler."""
    require_package("httpx", "language")
    asked: list[dict[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length"))
            asked.append(json.loads(await reader.readexactly(length)))
            await handlers[min(len(asked), len(handlers)) - 1](reader, writer, asked[-1])
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def main() -> tuple[list[str], list[str]]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        graph = Graph(name="chat")
        sink = Tokens()
        graph.add("ask", Ask(questions, interrupt))
        graph.add("chat", Chat(model="m", url=f"http://127.0.0.1:{port}/v1", timeout=timeout_ns, prefill=prefill))
        graph.add("sink", sink)
        graph.connect("ask", "chat")
        graph.connect("chat", "sink")
        worker = Worker(graph)
        async with asyncio.timeout(10):
            await worker.run()
        server.close()
        replies: dict[int, str] = {}
        for emitted in sink.emitted:
            assert isinstance(emitted.payload, Token)
            text = emitted.payload.text + ("." if emitted.payload.last else "")
            replies[emitted.packet.epoch] = replies.get(emitted.packet.epoch, "") + text
        return list(replies.values()), [problem.message for problem in worker.problems]

    return *asyncio.run(main()), asked


def test_an_answer_comes_token_by_token_and_ends() -> None:
    assert converse([answers])[:2] == (["Hello."], [])


@pytest.mark.parametrize("handler", [garbles, dies, refuses])
def test_reading_along_that_fails_costs_nothing(handler: Handler) -> None:
    replies, problems, asked = converse([handler, answers, handler], prefill=True)
    assert (replies, problems) == (["Hello."], [])
    assert len(asked) == 3


def test_the_next_question_comes_with_the_conversation_so_far() -> None:
    *_, asked = converse([answers], ("Hi?", "And?"))
    assert [m["content"] for m in asked[1]["messages"][1:]] == ["Hi?", "Hello", "And?"]


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (dies, "broke off in the middle of its answer"),
        (garbles, "sent something that is not an answer"),
        (refuses, "refused with status 404"),
        (hangs, "was silent for 1500ms"),
        (stalls, "was silent for 1500ms in the middle of its answer"),
    ],
)
def test_a_server_that_fails_costs_one_turn_and_one_clear_message(handler: Handler, message: str) -> None:
    replies, (problem,), _ = converse([handler, answers], ("Hi?", "And?"), timeout_ns=1_500 * MS)
    assert replies[-1] == "Hello."
    assert message in problem


def test_a_server_that_is_not_there_is_named_with_what_to_look_at() -> None:
    require_package("httpx", "language")
    graph = Graph(name="chat")
    graph.add("ask", Ask(("Hi?",)))
    graph.add("chat", Chat(url="http://127.0.0.1:9/v1"))
    graph.connect("ask", "chat")
    worker = Worker(graph)
    asyncio.run(worker.run())
    assert "127.0.0.1:9/v1 cannot be reached" in worker.problems[0].message
    assert "Is the server running?" in worker.problems[0].message


def test_a_server_that_is_busy_is_asked_again() -> None:
    assert converse([is_busy, is_busy, answers])[:2] == (["Hello."], [])


def test_a_server_that_stays_busy_is_not_asked_for_ever() -> None:
    _, (problem,), asked = converse([is_busy])
    assert "refused with status 503" in problem
    assert len(asked) == 3


def test_the_echo_needs_no_model_and_answers_with_the_question_word_by_word() -> None:
    transcript = packet(Transcript(text="where is it?", final=True), time=0, epoch=1)
    tokens = run_stage(Chat(backend="echo"), [transcript]).payloads()
    assert [token.text for token in tokens] == ["where ", "is ", "it?", ""]
    assert tokens[-1].last


def test_an_interrupt_hangs_up_and_the_next_turn_is_answered() -> None:
    replies, problems, _ = converse([stalls, answers], ("Hi?", "And?"), interrupt=True)
    assert replies[-1] == "Hello."
    assert problems == []
