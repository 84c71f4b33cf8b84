"""How long an answer falls silent where its backend does: `bench handoff gaps`. Under a virtual clock.

The same answers, faults and speech as in `deaths.py`, without what the machine is busy with: what is left is what the
decisions cost. Both backends are drawn once for all systems: the first token about 350 ms away (the other's 250),
26 tokens a second, both with a log-normal error of 0.2. Speech is reckoned as in `deaths.py`; play-out says how far it
is, as a speaker does.

    whole         no backend fails: the silence that a short first piece before a long sentence leaves by itself
    dies at N     the connection is gone behind N tokens
    stalls at N   nothing comes any more behind N tokens
    uneven        no backend fails, and tokens come with an error of 0.8: pauses of several times the usual one

`gap`: the longest silence within an answer; `silent`: turns with more than 50 ms of it. `asked`: how often a backend
was asked, for each turn. `stutters at 20`: nothing comes for 600 ms, and then the rest: no other backend is needed.
Systems are those of `deaths.py`; `thalweg-untold` is not told how much sound is left to play.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from thalweg.deploy.bench.language.deaths import AFTER, AT, Speech, on_one_line
from thalweg.deploy.bench.language.recording import CLOUD, PROMPTS, recorded
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.testing import run_virtual
from thalweg.models.language.backend import Abilities, BackendError, Delta, ErrorKind, Finish, Message, Request, Text
from thalweg.stages.language.pool.pool import Member, Pool, PoolPolicy

TURNS, QUICK = 200, 20
CASES = [("whole", 0), ("uneven", 0), *(("dies", at) for at in AT), *(("stalls", at) for at in AT), ("stutters", 20)]
UNTOLD = f"{OURS}-untold"
KINDS = {OURS: "prefix", f"{OURS}-instruct": "instruct", f"{OURS}-none": "none", UNTOLD: "prefix"}
FIRST_S, OTHER_FIRST_S, TOKEN_S, SPREAD, UNEVEN, STUTTER_S = 0.35, 0.25, 1 / 26, 0.2, 0.8, 0.6
SILENT_MS = 50.0


@dataclass(slots=True)
class _Backend:
    """Says an answer, each token when it was drawn. `fault`, `at`: what becomes of it, behind how many tokens."""

    abilities: Abilities
    answer: Sequence[str]
    rng: random.Random
    first_s: float
    fault: str = "whole"
    at: int = 0
    name: str = "a replayed model"
    asked: int = 0

    async def open(self) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""

    async def prefill(self, request: Request) -> None:
        """Nothing."""

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Say it, or what is left of it."""
        self.asked += 1
        await asyncio.sleep(self.first_s * self.rng.lognormvariate(0, SPREAD))
        for n, piece in enumerate(self._pieces(request)):
            if n == self.at and self.fault == "dies":
                raise BackendError(ErrorKind.BROKE_OFF, "reset")
            if n == self.at and self.fault in ("stalls", "stutters"):
                await asyncio.sleep(3600 if self.fault == "stalls" else STUTTER_S)
            yield Text(piece)
            await asyncio.sleep(TOKEN_S * self.rng.lognormvariate(0, UNEVEN if self.fault == "uneven" else SPREAD))
        yield Finish()

    def _pieces(self, request: Request) -> Sequence[str]:
        said = request.prefix
        if self.abilities.continues == "instruct" and request.messages[-2].role == "assistant":
            said = " ".join(request.messages[-2].text.split()[:-2])  # it repeats the last two words, as such models do
        left, pieces = len(said.strip()), []
        for piece in self.answer:
            pieces += [piece[left:]] if len(piece) > left else []
            left = max(0, left - len(piece))
        return pieces


@dataclass(frozen=True, slots=True)
class _Turn:
    gap_ms: float
    asked: int
    whole: bool


def measure(result: Result, quick: bool) -> None:
    """Rows per place and kind of fault, and system."""
    answers, count = long_answers(), QUICK if quick else TURNS
    result.rounds.expect(len(CASES) * len(KINDS))
    for fault, at in CASES:
        case = f"{fault} at {at}" if at else fault
        for system, continues in KINDS.items():
            ask = partial(turns_of, answers, fault, at, continues, count, told=system != UNTOLD)
            turns = result.rounds.ours(f"{case}, {count} turns", ask, system=system)
            gaps = [turn.gap_ms for turn in turns]
            result.add(case, system, count, "ms", gap_p50=quantile(gaps, 0.5), gap_p95=quantile(gaps, 0.95))
            shares = {"silent": sum(gap > SILENT_MS for gap in gaps), "wrong": sum(not turn.whole for turn in turns)}
            result.add(case, system, count, "%", **{name: 100 * n / count for name, n in shares.items()})
            result.add(case, system, count, "of a turn", asked=sum(turn.asked for turn in turns) / count)


def long_answers() -> list[str]:
    """Those that are broken off in the middle."""
    return ["".join(on_one_line(recorded()[CLOUD][prompt]["tokens"])).strip() for prompt in PROMPTS]


def turns_of(
    answers: Sequence[str], fault: str, at: int, continues: str, count: int, *, told: bool = True
) -> list[_Turn]:
    """So many turns, each in a conversation of its own."""
    return [run_virtual(_converse(answers[n % len(answers)], fault, at, continues, n, told)) for n in range(count)]


async def _converse(answer: str, fault: str, at: int, continues: str, seed: int, told: bool) -> _Turn:
    tokens = _cut(answer)[: max(at, AT[-1]) + AFTER]
    cloud = _Backend(Abilities(), tokens, random.Random(seed), FIRST_S, fault, at)
    house = _Backend(Abilities(continues=continues), tokens, random.Random(-1 - seed), OTHER_FIRST_S)  # type: ignore[arg-type]
    policy = PoolPolicy.model_validate({"probe_every": None, "first_text_within": "2s"})
    members = {"cloud": Member(where="cloud", quality=0.9), "house": Member(where="fog", quality=0.5)}
    pool = Pool(members, policy, made={"cloud": cloud, "house": house})
    await pool.open()
    loop, speech, said = asyncio.get_running_loop(), Speech(), ""
    began_s = loop.time()
    messages = [Message("system", "Answer in one paragraph."), Message("user", "Tell me about it, please.")]
    async with aclosing(pool.reply(Request(messages=messages, max_tokens=200))) as deltas:
        async for delta in deltas:
            if not isinstance(delta, Text | Finish):
                continue
            at_ms = 1e3 * (loop.time() - began_s)
            said += delta.text if isinstance(delta, Text) else ""
            if speech.add(at_ms, delta.text if isinstance(delta, Text) else None) and told:
                pool.heard(speech.ends_ms - at_ms)
    await pool.close()
    return _Turn(speech.gap_ms, cloud.asked + house.asked, said.split() == "".join(tokens).split())


def _cut(answer: str) -> list[str]:
    """Pieces as a tokeniser cuts: about four characters, within words, too."""
    pieces, left = [], answer
    while left:
        space = left.find(" ", 1, 7)
        cut = space if space > 0 else 6
        pieces.append(left[:cut])
        left = left[cut:]
    return pieces
