"""The embedded server: closed to strangers, flat in memory, and no conversation goes on with another one's cache."""

from __future__ import annotations

import asyncio
import json
import os
import random
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import require_model, require_package
from thalweg.models import ModelStore
from thalweg.models.errors import ModelError
from thalweg.models.language.backend import BackendError, Message, Request, Text, Usage
from thalweg.models.language.llama import LlamaServer
from thalweg.models.language.llamacpp import LlamaCppBackend
from thalweg.models.language.openai_backend import OpenAIBackend

pytestmark = pytest.mark.real

MODEL = "smollm2-135m-instruct"
PERSONA = Message("system", "You are a helpful voice assistant.")


@pytest.fixture(scope="module")
def model() -> Path:
    require_package("xllamacpp", "llama")
    require_package("httpx", "language")
    require_model(MODEL)
    return ModelStore().path(MODEL)


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[LlamaServer]:
    server = LlamaServer(model, context=512, threads=1, slots=2)
    yield server
    server.close()


def get(
    url: str, body: bytes | None = None, method: str | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers}, method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read().decode()


PATHS = ("/health", "/slots", "/props", "/v1/models", "/models", "/metrics", "/lora-adapters", "/", "/index.html")


@pytest.mark.parametrize("path", PATHS)
def test_a_stranger_is_told_nothing(server: LlamaServer, path: str) -> None:
    parts = urlsplit(server.url)
    for base in (f"{parts.scheme}://{parts.netloc}", server.url.removesuffix("/v1")):
        status, headers, text = get(base + path, Origin="http://evil.example", Host="evil.example")
        assert status in (401, 404)
        assert "evil.example" not in str(headers)
        assert str(Path.home()) not in text


@pytest.mark.parametrize("key", ["", "Bearer ", "Bearer none", "Bearer " + "x" * 43])
def test_nobody_generates_without_the_key_of_this_process(server: LlamaServer, key: str) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}).encode()
    for base in (server.url, server.url.replace(urlsplit(server.url).path, "/v1")):
        assert get(f"{base}/chat/completions", body, Authorization=key)[0] in (401, 404)


def test_no_page_is_let_in_by_its_browser(server: LlamaServer) -> None:
    asks = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    _, headers, _ = get(f"{server.url}/chat/completions", method="OPTIONS", **asks)
    assert headers.get("Access-Control-Allow-Origin") not in ("*", "null", "http://evil.example")
    assert headers.get("Access-Control-Allow-Credentials") != "true"


def test_it_listens_on_loopback_alone(server: LlamaServer) -> None:
    port = f":{urlsplit(server.url).port:04X}"
    tables = "".join(Path(f"/proc/net/{table}").read_text(encoding="utf-8") for table in ("tcp", "tcp6"))
    lines = [line.split() for line in tables.splitlines() if ":" in line]
    assert [local for _, local, _, state, *_ in lines if local.endswith(port) and state == "0A"] == [f"0100007F{port}"]


def test_every_server_has_a_key_of_its_own(model: Path, server: LlamaServer) -> None:
    other = LlamaServer(model, context=64, threads=1, slots=1)
    assert other.key != server.key
    other.close()


def ask(
    server: LlamaServer, messages: list[Message], max_tokens: int = 8, slot: int | None = None
) -> tuple[str, Usage]:
    """What it says, and what that took."""

    async def main() -> tuple[str, Usage]:
        backend = OpenAIBackend.of_this_process(MODEL, server.url, server.key, 0, slot)
        await backend.open()
        said, usage = "", Usage()
        async with aclosing(backend.reply(Request(messages=messages, max_tokens=max_tokens))) as deltas:
            async for delta in deltas:
                said += delta.text if isinstance(delta, Text) else ""
                usage = delta if isinstance(delta, Usage) else usage
        await backend.close()
        return said, usage

    return asyncio.run(main())


def test_no_conversation_is_gone_on_with_from_another_ones_cache(model: Path) -> None:
    secret = [PERSONA, Message("user", "My PIN is 4711, remember it. My name is Bob."), Message("assistant", "I will.")]
    question = [PERSONA, Message("user", "What is my PIN?")]
    fresh = LlamaServer(model, context=512, threads=1, slots=1)
    alone, _ = ask(fresh, question)
    fresh.close()
    server = LlamaServer(model, context=512, threads=1, slots=1)
    shared = ask(server, [PERSONA, Message("user", "x")])[1].prompt_tokens or 0
    for _ in range(3):
        ask(server, [*secret, Message("user", "Thank you. What is my PIN?")])
        said, usage = ask(server, question)
        assert said == alone
        assert usage.cached_tokens is not None
        assert usage.cached_tokens <= shared
    server.close()


def test_after_an_interruption_only_what_is_new_is_read(server: LlamaServer) -> None:
    """The answer is hung up on in its middle, and remembered as far as it was heard, which is less than was made."""
    told = [PERSONA, Message("user", "Tell me all about the sea and its fish, please, in many long sentences.")]

    async def interrupted() -> str:
        backend = OpenAIBackend.of_this_process(MODEL, server.url, server.key, 0, slot=1)
        await backend.open()
        said = ""
        async with aclosing(backend.reply(Request(messages=told, max_tokens=200))) as deltas:
            async for delta in deltas:
                said += delta.text if isinstance(delta, Text) else ""
                if len(said.split()) > 12:
                    break
        await backend.close()
        return " ".join(said.split()[:6])

    before = ask(server, told, slot=1)[1].prompt_tokens or 0
    heard = asyncio.run(interrupted())
    _, usage = ask(server, [*told, Message("assistant", heard), Message("user", "And the sky?")], slot=1)
    assert usage.prompt_tokens is not None and usage.cached_tokens is not None
    new = usage.prompt_tokens - before
    assert usage.prompt_tokens - usage.cached_tokens <= new + 8


def test_a_draft_that_was_dropped_costs_the_next_question_no_cache(model: Path) -> None:
    """While llama.cpp has not noticed yet that it was hung up on, and another conversation stands beside."""
    told = [PERSONA, Message("user", "The river is wide and deep. " * 30)]

    async def main() -> list[int]:
        backend, beside = LlamaCppBackend(MODEL, threads=1), LlamaCppBackend(MODEL, threads=1)
        await backend.open()
        await beside.open()
        read = []
        try:
            for question in ("Why is", "Why is it so", "Why is it so deep", "And how wide is it"):
                draft = Request(messages=[*told, Message("user", question)], max_tokens=96)
                async with aclosing(backend.reply(draft)) as deltas:
                    async for delta in deltas:
                        if isinstance(delta, Text):
                            break
                asked = Request(messages=[*told, Message("user", f"{question}, then?")], max_tokens=1)
                usages = [delta async for delta in backend.reply(asked) if isinstance(delta, Usage)]
                read.append((usages[-1].prompt_tokens or 0) - (usages[-1].cached_tokens or 0))
        finally:
            await beside.close()
            await backend.close()
        return read

    assert max(asyncio.run(main())) <= 16


def test_slots_are_taken_by_conversations_as_long_as_there_are_any(model: Path) -> None:
    server = LlamaServer(model, context=64, threads=1, slots=2)
    assert [server.take_slot() for _ in range(3)] == [0, 1, None]
    server.give_back(1)
    assert [server.take_slot() for _ in range(2)] == [1, None]
    server.close()


def test_another_context_and_a_file_of_ones_own_are_another_server(model: Path) -> None:
    async def main() -> tuple[int, str]:
        shared, own = LlamaCppBackend(MODEL, threads=1), LlamaCppBackend("mine", 1, file=str(model), context=256)
        await shared.open()
        await own.open()
        question = Request(messages=[Message("user", "word " * 300)], max_tokens=4)
        try:
            with pytest.raises(BackendError) as caught:
                async for _ in own.reply(question):
                    pass
            read = [delta.prompt_tokens or 0 async for delta in shared.reply(question) if isinstance(delta, Usage)]
        finally:
            await own.close()
            await shared.close()
        return max(read), caught.value.kind.value

    read, kind = asyncio.run(main())
    assert read > 256 and kind == "too long"


def test_a_file_that_is_not_there_is_said_to_be_missing() -> None:
    require_package("xllamacpp", "llama")
    with pytest.raises(BackendError, match=r"cannot be used: .*nowhere\.gguf cannot be read"):
        asyncio.run(LlamaCppBackend("mine", file="/nowhere.gguf").open())


def test_a_conversation_under_way_is_read_only_from_where_it_grew(server: LlamaServer) -> None:
    told = [PERSONA, Message("user", "Tell me about the sea, please, in one short sentence.")]
    said, before = ask(server, told)
    _, usage = ask(server, [*told, Message("assistant", said), Message("user", "And the sky?")])
    assert usage.cached_tokens is not None
    assert before.prompt_tokens is not None
    assert usage.cached_tokens >= before.prompt_tokens - 1


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def test_language_model_memory_does_not_grow_with_conversations(model: Path) -> None:
    server = LlamaServer(model, context=512, threads=1, slots=1)
    assert growth_mb(server) < 15  # 4 MB for each conversation, where the prompts are kept
    server.close()


def growth_mb(server: LlamaServer, conversations: int = 12) -> float:
    """By how much memory grows with that many conversations, once two have been."""
    r = random.Random(1)
    words = ["river", "mountain", "engine", "yellow", "window", "market", "winter", "careful", "silver", "garden"]
    before = 0.0
    for conversation in range(conversations + 2):
        before = resident_mb() if conversation == 2 else before
        asked = " ".join(r.choice(words) for _ in range(150))
        ask(server, [PERSONA, Message("user", f"conversation {conversation}: {asked}")], max_tokens=2)
    return resident_mb() - before


@pytest.mark.parametrize(
    "content", [b"", b"GG", b"version https://git-lfs.github.com/spec/v1\n", b"<html>not found</html>"]
)
def test_what_is_no_model_is_named_with_what_helps(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.gguf is not a GGUF file .* fetch it again"):
        LlamaServer(path)


def test_half_a_model_is_named(tmp_path: Path) -> None:
    require_package("xllamacpp", "llama")
    path = tmp_path / "half.gguf"
    path.write_bytes(b"GGUF" + bytes(1000))
    with pytest.raises(ModelError, match=r"half\.gguf"):
        LlamaServer(path)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.gguf cannot be read: No such file"):
        LlamaServer(tmp_path / "none.gguf")
