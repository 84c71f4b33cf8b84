"""What becomes of an answer whose backend dies in the middle of it: `bench handoff deaths`.

A server says a recorded answer at the pace at which it was recorded (*replayed*: two models at once would starve each
other here) and resets the connection after 1, 5, 20 or 60 tokens, or falls silent after 20 (`stalls`). A second server
knows the same answer. Which words come, and when, is what `language.chat` emits, or LiteLLM's router gives.

    thalweg            a pool; the second server goes on from a prefix
    thalweg-instruct   the same; it is told to go on, and repeats the last two words, as such models do
    thalweg-none       the same; it can only begin anew
    single             one backend, as before there were pools
    restarts           an ordered list that answers anew (`restarting.py`), as LiveKit's does with `retry_on_chunk_sent`
    litellm            LiteLLM's router with a fallback, in an environment of its own
    litellm-continues  the same with `enable_mid_stream_fallback_continuation`, which is off by default

`finished`: turns whose answer came to its end. `wrong`: turns with words that were lost, repeated or changed. Speech is
reckoned from the pieces that `speech.sentences` makes: 40 ms of synthesis a word, 15 characters a second of sound.
`gap` is the longest silence within an answer, `first` when its first sound comes.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from thalweg.deploy.bench.language.modelserver import Json, ModelServer, Plan
from thalweg.deploy.bench.language.recording import CLOUD, PROMPTS, recorded
from thalweg.deploy.bench.peers import run_peer
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Payload, Sentence, Token, Transcript
from thalweg.pipeline.signal import Ahead, Direction
from thalweg.pipeline.stage import Context, describe
from thalweg.stages.language.chat import Chat
from thalweg.stages.speech.sentences import Sentences

AT = (1, 5, 20, 60)
CASES = [*(("dies", at) for at in AT), ("stalls", 20)]
TURNS = {OURS: 200, f"{OURS}-instruct": 100, f"{OURS}-none": 100, "single": 40, "restarts": 40}
TURNS |= {"litellm": 40, "litellm-continues": 40}
"""Of each case; of those whose answers are all wrong, or all right, fewer tell as much."""
QUICK = 4
AT_ONCE = 8
AFTER = 25
"""Tokens of an answer behind the place where it is broken off."""
TOKEN_S, FIRST_S, OTHER_FIRST_S = 1 / 26, 0.35, 0.25
SYNTHESIS_MS, CHARACTERS_PER_S = 40.0, 15.0
_POLICY = {"probe_every": None, "first_text_within": "2s"}
_QUESTION = re.compile(r"#(\d+) (\w+) (\d+)")


@dataclass(slots=True)
class TurnHeard:
    """One turn: what came, each piece with its time since the question, ms."""

    tokens: list[tuple[float, str]] = field(default_factory=list)
    problem: str = ""

    @property
    def words(self) -> list[str]:
        """All of it."""
        return "".join(text for _, text in self.tokens).split()

    def spoken(self) -> Speech:
        """What a person would hear of it."""
        speech = Speech()
        for at_ms, text in self.tokens:
            speech.add(at_ms, text)
        if self.tokens:
            speech.add(self.tokens[-1][0], None)
        return speech


class Speech:
    """Sound made of text that comes: when its `first_ms` comes, the longest silence within it, when it `ends_ms`."""

    def __init__(self) -> None:
        self.first_ms: float | None = None
        self.gap_ms = self.ends_ms = self._ready_ms = 0.0
        self._sentences = Sentences()

    def add(self, at_ms: float, text: str | None) -> bool:
        """A piece of text came, or None: no more will. True where it makes something ready to be spoken."""
        pieces = _pieces(self._sentences, text)
        for piece in pieces:
            self._ready_ms = max(self._ready_ms, at_ms) + SYNTHESIS_MS * len(piece.split())
            if self.first_ms is None:
                self.first_ms = self.ends_ms = self._ready_ms
            self.gap_ms = max(self.gap_ms, self._ready_ms - self.ends_ms)
            self.ends_ms = max(self.ends_ms, self._ready_ms) + 1e3 * len(piece) / CHARACTERS_PER_S
        return bool(pieces)


def measure(result: Result, quick: bool) -> None:
    """Rows per place of death and system."""
    answers = [on_one_line(recorded()[CLOUD][prompt]["tokens"]) for prompt in PROMPTS]
    answers = [answer for answer in answers if len(answer) >= AT[-1] + AFTER]
    result.rounds.expect(len(TURNS))
    for system, many in TURNS.items():
        count = QUICK if quick else many
        questions = [f"#{n} {fault} {at}" for fault, at in CASES for n in range(count)]
        limit_s = 60 + 5.0 * len(questions)
        if system.startswith("litellm"):
            found = _litellm(result, system, questions, answers, limit_s)
        else:
            ask = partial(_run, system, questions, answers)
            found = result.rounds.ours(f"{len(questions)} turns", ask, limit_s, system=system)
        if found is not None:
            _add(result, system, count, found, answers)


def on_one_line(tokens: Sequence[str]) -> list[str]:
    """Pieces of a recorded answer, as they came, on one line."""
    return [re.sub(r"\s+", " ", token) for token in tokens if token]


def _answer(answers: Sequence[list[str]], n: int, at: int) -> list[str]:
    return answers[n % len(answers)][: at + AFTER]


def _servers(answers: Sequence[list[str]], continues: str) -> tuple[ModelServer, ModelServer]:
    """The one that fails as the question says, and the one that is well."""

    def plan(asked: Json, *, well: bool) -> Plan:
        said = next(found for m in asked["messages"] if (found := _QUESTION.search(m["content"])))
        n, fault, at = int(said[1]), said[2], int(said[3])
        return Plan(_answer(answers, n, at), "none" if well else fault, at)

    cloud = ModelServer(first_s=FIRST_S, token_s=TOKEN_S, plan=lambda asked: plan(asked, well=False))
    house = ModelServer(
        first_s=OTHER_FIRST_S, token_s=TOKEN_S, continues=continues, plan=lambda asked: plan(asked, well=True)
    )
    return cloud, house


def _run(system: str, questions: Sequence[str], answers: Sequence[list[str]]) -> list[TurnHeard]:
    return asyncio.run(_ask_all(system, questions, answers))


async def _ask_all(system: str, questions: Sequence[str], answers: Sequence[list[str]]) -> list[TurnHeard]:
    continues = system.partition("-")[2] or "prefix"
    turn = asyncio.Semaphore(AT_ONCE)

    async def ask(question: str) -> TurnHeard:
        async with turn:
            return await _ask(_settings(system, continues, cloud.url, house.url), question)

    async with AsyncExitStack() as stack:
        cloud, house = [await stack.enter_async_context(server) for server in _servers(answers, continues)]
        return list(await asyncio.gather(*(ask(question) for question in questions)))


def _settings(system: str, continues: str, cloud: str, house: str) -> Mapping[str, Any]:  # Any: as in a file
    if system == "single":
        return {"model": "m", "url": cloud}
    if system == "restarts":
        return {"backend": "thalweg.deploy.bench.language.restarting:Restarting", "options": {"urls": [cloud, house]}}
    members = {
        "cloud": {"model": "m", "url": cloud, "where": "cloud", "quality": 0.9},
        "house": {"model": "m", "url": house, "where": "fog", "quality": 0.5, "continues": continues},
    }
    return {"backends": members, "policy": _POLICY}


async def _ask(settings: Mapping[str, Any], question: str) -> TurnHeard:  # Any: as above
    heard = TurnHeard()
    graph = Graph(name="turn")
    graph.add("ask", _Asker(question))
    graph.add("chat", Chat(**describe(Chat).check({"max_tokens": 200, **settings})))
    graph.add("ears", _Ears(heard))
    graph.connect("ask", "chat")
    graph.connect("chat", "ears")
    worker = Worker(graph)
    worker.on_problem = lambda problem: setattr(heard, "problem", problem.message)
    await worker.run()
    return heard


class _Asker:
    """One question."""

    outputs = {"transcript": Transcript}

    def __init__(self, question: str) -> None:
        self._question = question

    async def run(self, ctx: Context) -> None:
        """Ask it."""
        await ctx.send(Transcript(text=self._question, final=True), time=ctx.now_ns(), epoch=ctx.new_epoch())


class _Ears:
    """Notes what comes when, and tells how much sound there is to be heard, as play-out does."""

    inputs = {"token": Token}

    def __init__(self, heard: TurnHeard) -> None:
        self._heard, self._speech = heard, Speech()

    def process(self, packet: Packet, ctx: Context) -> None:
        """Note a token."""
        token = packet.payload
        assert isinstance(token, Token)
        at_ms = (ctx.now_ns() - packet.time) / 1e6
        if token.text:
            self._heard.tokens.append((at_ms, token.text))
        if self._speech.add(at_ms, token.text):
            ahead_ns = round((self._speech.ends_ms - at_ms) * 1e6)
            ctx.signal(Ahead(epoch=packet.epoch, ahead_ns=ahead_ns), Direction.UP)


class _Listener:
    """All of a context that `Sentences` uses."""

    def __init__(self) -> None:
        self.pieces: list[str] = []

    def emit(self, payload: Payload, port: str | None = None, **_: Any) -> None:
        """Keep what it makes."""
        if isinstance(payload, Sentence) and payload.text.strip():
            self.pieces.append(payload.text)


def _pieces(sentences: Sentences, text: str | None) -> list[str]:
    """What a piece of text makes ready to be spoken; None: nothing more comes."""
    listener = _Listener()
    token = Token(text=text or "", last=text is None)
    packet = Packet(payload=token, stream="token", seq=0, time=0, epoch=1)
    sentences.process(packet, listener)  # type: ignore[arg-type]  # as it says above
    return listener.pieces


def _litellm(
    result: Result, system: str, questions: Sequence[str], answers: Sequence[list[str]], limit_s: float
) -> list[TurnHeard] | None:
    """The same of LiteLLM's router. What it goes on with is an assistant's prefix."""
    with _serving(answers) as (cloud, house), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "questions.json"
        path.write_text(json.dumps(questions), encoding="utf-8")
        script = "language/programs/litellm_router.py"
        arguments = [cloud.url, house.url, str(AT_ONCE), "2", str(int(system != "litellm")), str(path)]
        what = f"{len(questions)} turns"
        found = run_peer("litellm", script, arguments, result, system=system, what=what, limit_s=limit_s)
    if found is None:
        return None
    return [TurnHeard([(at_ms, text) for at_ms, text in one["tokens"]], one["problem"]) for one in found["found"]]


@contextmanager
def _serving(answers: Sequence[list[str]]) -> Iterator[tuple[ModelServer, ModelServer]]:
    """Both servers in a thread, while this one waits for another program."""
    loop, servers = asyncio.new_event_loop(), _servers(answers, "prefix")
    thread = threading.Thread(target=loop.run_forever, name="model-servers")
    thread.start()
    try:
        for server in servers:
            asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        yield servers
    finally:
        for server in servers:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _add(
    result: Result,
    system: str,
    count: int,
    measured: Sequence[TurnHeard],
    answers: Sequence[list[str]],
) -> None:
    for k, (fault, at) in enumerate(CASES):
        turns = measured[k * count : (k + 1) * count]
        whole = ["".join(_answer(answers, n, at)).split() for n in range(count)]
        case = f"{fault} at {at}"
        finished = [t.words[-1:] == w[-1:] and not t.problem for t, w in zip(turns, whole, strict=True)]
        wrong = [t.words != w for t, w in zip(turns, whole, strict=True)]
        result.add(case, system, count, "%", finished=100 * sum(finished) / count, wrong=100 * sum(wrong) / count)
        spoken = [turn.spoken() for turn in turns]
        gaps, firsts = [speech.gap_ms for speech in spoken], [speech.first_ms or 0.0 for speech in spoken]
        p95 = {"gap_p50": quantile(gaps, 0.5), "gap_p95": quantile(gaps, 0.95), "first_p95": quantile(firsts, 0.95)}
        result.add(case, system, count, "ms", **p95)
