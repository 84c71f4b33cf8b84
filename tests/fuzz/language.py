"""Whatever a language-model server may send: `python -m tests.fuzz.language --count 100000` tries that many replies.

A case is a reply with what its model means to say and what it only thinks, put into the forms that servers have for it,
cut into bytes anywhere, and possibly broken: by an error, a cut, silence, garbage, giants. Each goes through
`language.chat` and its OpenAI backend, as the bytes of a connection, under the virtual clock. Held:

1. nothing is raised but LanguageModelError;
2. no word that was thought is emitted or remembered;
3. what is emitted is valid Unicode and no longer than was asked for;
4. where nothing was broken, what was meant is what is emitted;
5. the next turn works, and is asked with valid Unicode.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.fuzz.replies import CANARY, MAX_TOKENS, Case, generate
from thalweg.deploy.testing import packet, run_virtual
from thalweg.models.http import HttpError, HttpErrorKind
from thalweg.models.language.openai_backend import OpenAIBackend
from thalweg.pipeline.payload import Payload, Token, Transcript
from thalweg.stages.language.chat import Chat, LanguageModelError


class Client:
    """The HTTP client's place, taken by what a case sends."""

    def __init__(self) -> None:
        self.case = Case([])
        self.bodies: list[bytes] = []

    @asynccontextmanager
    async def post(self, path: str, body: bytes, *, headers: Any = None) -> AsyncIterator[Client]:
        self.bodies.append(body)
        yield self

    @property
    def status(self) -> int:
        return self.case.status

    @property
    def headers(self) -> dict[str, str]:
        return {}

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for part in self.case.data:
            if part is None:
                await asyncio.sleep(4)
            else:
                yield part
        if self.case.fault == "broken_off" and len(self.case.data) % 2:
            raise HttpError(HttpErrorKind.BROKE_OFF, "broke off: connection reset")

    async def text(self, most: int = 65_536) -> str:
        return b"".join([part async for part in self.chunks()])[:most].decode("utf-8", "replace")

    async def close(self) -> None:
        pass


class Ctx:
    """As much of a context as `language.chat` asks for."""

    stale = False
    lent = False

    def __init__(self) -> None:
        self.said = ""
        self.ended = False

    def emit(self, payload: Payload, *, port: str | None = None) -> None:
        assert isinstance(payload, Token)
        self.said += payload.text
        self.ended = self.ended or payload.last

    def peek(self, port: str | None = None) -> None:
        return None


class Conversation:
    """One `language.chat`, asked case after case, so that what a reply breaks shows in the next turn."""

    def __init__(self) -> None:
        self.client = Client()
        backend = OpenAIBackend(model="m", url="http://127.0.0.1:1/v1", retries=0)
        backend._client = self.client  # type: ignore[assignment]  # in its place
        self.chat = Chat(backend=backend, max_tokens=MAX_TOKENS, history=2, timeout=5_000_000_000)
        self.epoch = 0

    async def ask(self, case: Case) -> tuple[Ctx, str]:
        """What was emitted, and the error."""
        self.client.case = case
        self.epoch += 1
        ctx, problem = Ctx(), ""
        try:
            transcript = Transcript(text="what is it?", final=True)
            await self.chat.process(packet(transcript, epoch=self.epoch), ctx)  # type: ignore[arg-type]
        except LanguageModelError as error:
            problem = str(error)
        return ctx, problem

    async def check(self, case: Case) -> str:
        """What is wrong, or nothing."""
        ctx, problem = await self.ask(case)
        if CANARY in ctx.said or CANARY in str(self.chat.snapshot()):
            return f"a thought was said: {ctx.said!r}"
        if len(ctx.said) > 16 * MAX_TOKENS:
            return f"{len(ctx.said)} characters were said"
        try:
            ctx.said.encode()
            problem.encode()
            json.loads(self.client.bodies[-1])
        except ValueError as error:
            return repr(error)
        if case.whole and (problem or _plain(ctx.said) != _plain(case.meant) or not ctx.ended):
            return f"{_plain(case.meant)!r} was meant, {_plain(ctx.said)!r} was said, {problem}"
        if not problem and not ctx.ended:
            return "the answer has no end"
        ctx, problem = await self.ask(_OK)
        if ctx.said != "All right." or problem:
            return f"the next turn said {ctx.said!r}, {problem}"
        self.client.bodies.clear()
        return ""


_OK = Case(
    [(False, "All right.")],
    [b'data: {"choices": [{"delta": {"content": "All right."}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'],
)


def _plain(text: str) -> str:
    return " ".join(text.split())


async def attempt(seeds: range, progress: bool = False) -> tuple[Counter[str], list[str]]:
    """Try the cases of `seeds`; how many of each fault there were, and what was wrong."""
    kinds: Counter[str] = Counter()
    wrong: list[str] = []
    conversation = Conversation()
    for seed in seeds:
        case = generate(random.Random(seed))
        kinds[case.fault] += 1
        try:
            found = await conversation.check(case)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if found:
            wrong.append(f"seed {seed} ({case.fault}): {found}"[:500])
            conversation = Conversation()
        if progress and seed % 5_000 == 4_999:
            print(f"{seed + 1} replies, {len(wrong)} wrong", file=sys.stderr, flush=True)
    return kinds, wrong


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first one")
    given = parser.parse_args()
    began = time.monotonic()
    kinds, wrong = run_virtual(attempt(range(given.first, given.first + given.count), progress=True))
    print(f"{given.count} replies in {time.monotonic() - began:.0f} s: {dict(kinds)}; {len(wrong)} wrong")
    for line in wrong[:20]:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
