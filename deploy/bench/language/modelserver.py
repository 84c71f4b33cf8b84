"""A model server, on loopback unless said otherwise, that says a known answer, and misbehaves in one known way.

It speaks OpenAI's streaming protocol over chunked HTTP, one connection per question. What it says is a text, cut into
pieces as a tokeniser does, that is within words too; `first_s` and `token_s` pace it. Where a question comes with the
beginning of an answer, it goes on from there as `continues` says.

    fault            what happens
    none             the answer, a reason for its end, [DONE]
    dies             after `at` pieces the connection is reset, in mid-word where the pieces are such
    ends             after `at` pieces the connection is closed in order, without a reason for the end
    no reason        the whole answer, then the connection is closed in order, without a reason for the end
    stalls           after `at` pieces silence, on an open connection
    pings in between after `at` pieces nothing but pings
    half-open        a head, then silence
    black hole       the question is taken, and nothing comes
    pings            a head, then endless pings
    roles            a head, then endless deltas that hold only a role
    spaces           a head, then endless pieces of white space
    busy             429 with an absurd `Retry-After`
    unavailable      503
    refuses          401
    error            200, and then an error in the stream
    late error       the same after `at` pieces
    huge             a piece of ten million characters
    garbage          a page of HTML with status 200
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_PIECE = re.compile(r"\s*\S{1,4}")
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
Json = dict[str, Any]  # Any: what JSON can say


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of one question."""

    pieces: list[str]
    fault: str = "none"
    at: int = 0


class ModelServer:
    """See above. `asked`: the bodies of the questions that came; `asked_s`: when; `said_s`: when each was given its
    last piece, where they come one after the other; `heard`: all bytes that came, for who looks for words.

    `fault` and `at` may be changed between questions. `faults`, if given, has one for each question to come; `plan`, if
    given, says for each question the pieces of the answer, the fault and where.
    """

    def __init__(
        self,
        answer: str = "",
        fault: str = "none",
        *,
        at: int = 5,
        first_s: float = 0.002,
        token_s: float = 0.0,
        continues: str = "prefix",
        ping_s: float = 0.005,
        plan: Callable[[Json], Plan] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.answer, self.fault, self.at = answer, fault, at
        self.first_s, self.token_s, self.continues, self.ping_s = first_s, token_s, continues, ping_s
        self.plan = plan
        self.faults: list[str] = []
        self.asked: list[Json] = []
        self.asked_s: list[float] = []
        self.said_s: list[float] = []
        self.heard = bytearray()
        self.url = ""
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> ModelServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; at the same address as before, where it was stopped."""
        self._server = await asyncio.start_server(self._serve, self._host, self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://{self._host}:{self._port}/v1"

    async def stop(self) -> None:
        """Be gone: connections under way are reset, new ones are refused."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            for writer in list(self._writers):
                _reset(writer)
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            # cancelled only where the loop ends, which would print that
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(re.findall(rb"(?i)content-length:\s*(\d+)", head)[0])
                body = await reader.readexactly(length)
                self.heard += head + body
                self.asked.append(json.loads(body))
                self.asked_s.append(asyncio.get_running_loop().time())
                plan = self.plan(self.asked[-1]) if self.plan else self._planned()
                reply = _Reply(reader, writer, self, self._rest(plan.pieces, self.asked[-1]), plan.at)
                await _FAULTS[plan.fault](self, reply, plan.fault)
        finally:
            self._writers.discard(writer)
            writer.close()

    def _planned(self) -> Plan:
        return Plan(_PIECE.findall(self.answer), self.faults.pop(0) if self.faults else self.fault, self.at)

    def _rest(self, pieces: list[str], asked: Json) -> list[str]:
        """What is still to be said, where an answer has begun."""
        last, said = asked["messages"][-1], ""
        if last["role"] == "assistant" and self.continues == "prefix":
            said = last["content"]
        elif self.continues == "instruct":
            said = next((m["content"] for m in asked["messages"][-2:] if m["role"] == "assistant"), "")
            said = " ".join(said.split()[:-2]) + " "  # as such models do: they repeat the last words
        spaced, whole, said = said[-1:].isspace(), "".join(pieces), said.strip()
        if not said or not whole.lstrip().startswith(said):
            return pieces
        past = len(whole) - len(whole.lstrip()) + len(said)
        ends = list(itertools.accumulate(len(piece) for piece in pieces))
        rest = [
            piece[max(0, len(piece) - (end - past)) :] for piece, end in zip(pieces, ends, strict=True) if end > past
        ]
        return [rest[0].lstrip() if spaced else rest[0], *rest[1:]] if rest else []


class _Reply:
    """One connection's way back. `pieces`: what is to be said."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server: ModelServer,
        pieces: list[str],
        at: int,
    ) -> None:
        self.writer, self.server, self.pieces, self.at = writer, server, pieces, at
        self._reader = reader

    async def begin(self) -> None:
        self.writer.write(_HEAD)
        await self.writer.drain()
        await asyncio.sleep(self.server.first_s)

    async def say(self, pieces: list[str]) -> None:
        for piece in pieces:
            await self.send(_event({"content": piece}))
            self.server.said_s[len(self.server.asked) - 1 :] = [asyncio.get_running_loop().time()]
            if self.server.token_s:
                await asyncio.sleep(self.server.token_s)

    async def send(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self.writer.drain()

    async def repeat(self, data: bytes) -> None:
        while True:
            await self.send(data)
            await asyncio.sleep(self.server.ping_s)

    def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")

    async def silence(self) -> None:
        """Until the other side hangs up."""
        await self._reader.read()


async def _says(server: ModelServer, reply: _Reply, fault: str) -> None:
    await reply.begin()
    if fault == "none":
        await reply.say(reply.pieces)
        await reply.send(_event({}, "stop") + b"data: [DONE]\n\n")
        reply.end()
        return
    await reply.say(reply.pieces if fault == "no reason" else reply.pieces[: reply.at])
    if fault == "dies":
        _reset(reply.writer)
    elif fault == "late error":
        await reply.send(b'data: {"error": {"message": "CUDA out of memory"}}\n\n')
    elif fault == "stalls":
        await reply.silence()
    elif fault == "pings in between":
        await reply.repeat(b": ping\n\n")
    else:
        reply.end()


async def _begins(server: ModelServer, reply: _Reply, fault: str) -> None:
    await reply.begin()
    if fault == "half-open":
        await reply.silence()
    elif fault == "error":
        await reply.send(b'data: {"error": {"message": "the model is not loaded"}}\n\n')
    elif fault == "huge":
        await reply.send(_event({"content": "x" * 10_000_000}))
    else:
        said = {
            "pings": b": ping\n\n",
            "roles": _event({"role": "assistant", "content": ""}),
            "spaces": _event({"content": " "}),
        }
        await reply.repeat(said[fault])


async def _refuses(server: ModelServer, reply: _Reply, fault: str) -> None:
    if fault == "black hole":
        await reply.silence()
    page = b"<html><h1>Sign in</h1></html>"
    body = page if fault == "garbage" else b'{"error": {"message": "not now"}}'
    status = {"busy": b"429 X\r\nRetry-After: 31536000", "unavailable": b"503 X", "refuses": b"401 X"}
    head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    reply.writer.write(head % (status.get(fault, b"200 OK"), len(body)) + body)
    await reply.writer.drain()


_FAULTS: Mapping[str, Callable[[ModelServer, _Reply, str], Awaitable[None]]] = (
    dict.fromkeys(("half-open", "pings", "roles", "spaces", "error", "huge"), _begins)
    | dict.fromkeys(("black hole", "busy", "unavailable", "refuses", "garbage"), _refuses)
    | dict.fromkeys(("none", "dies", "ends", "no reason", "stalls", "pings in between", "late error"), _says)
)
FAULTS = tuple(fault for fault in _FAULTS if fault != "none")
"""Everything that can go wrong with one answer; servers that are not there are stopped ones."""


def _event(delta: Json, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection without a word, as a process that was killed does where data is under way."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
