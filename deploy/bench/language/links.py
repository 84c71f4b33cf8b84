"""Who answers in time while the link changes: `bench handoff links`. Under a virtual clock; an hour takes seconds.

A model on the edge answers soon and is often wrong, one in the cloud is better, and 250 ms away on a good link. Both
say what the store's models were recorded to say (*replayed*); when is drawn at random, for all systems the same. A turn
is in time where its first clause is there within 900 ms. `right`: share of turns whose answer holds the pattern of its
question, `right_in_time`: of which the first clause was in time, too.

    thalweg            deadline routing, with `hedge_after: auto`
    thalweg-unhedged   without
    static-edge, -cloud   one backend, always
    fallback-5s        the cloud first; after 5 s of silence, or an error, the edge answers anew (`restarting.py`)
    oracle             knows each turn's draw: the cloud where it is in time, else the edge

`cloud_tokens`: what the cloud was asked for and said, prompts and answers, as a share of what static-cloud takes: what
hedges and trials between turns cost is in it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from thalweg.deploy.bench.language.deaths import Speech
from thalweg.deploy.bench.language.recording import CLOUD, EDGE, recorded, templates
from thalweg.deploy.bench.language.restarting import Restarting
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.testing import run_virtual
from thalweg.models.language.backend import (
    Abilities,
    Backend,
    BackendError,
    Delta,
    Finish,
    Message,
    Request,
    Text,
)
from thalweg.stages.language.pool.member import tokens_of
from thalweg.stages.language.pool.pool import Member, Pool, PoolPolicy

WITHIN_MS, EVERY_S, TURNS, QUICK = 900.0, 10.0, 720, 40
PATIENCE_S = 10.0
EDGE_FIRST_MS, EDGE_TOKEN_S, CLOUD_TOKEN_S = 90.0, 0.02, 1 / 26
SEEDS = 31, 32
"""Of the traces, and of what is drawn on them. The rules were set on 1 and 2; these are for the numbers alone."""
_POLICY = {"first_clause_within": "900ms", "first_text_within": "2s", "stall": "700ms"}
_SYSTEM = "You are a helpful voice assistant. Answer in one or two short, plain sentences."


@dataclass(frozen=True, slots=True)
class State:
    """Of the link, for a while: how far the cloud's first token is, how that varies, how many take six times that."""

    first_ms: float = 250.0
    spread: float = 0.15
    spikes: float = 0.0
    out: bool = False


def traces(turns: int, seed: int) -> dict[str, list[State]]:
    """By name: the state of the link in each turn."""
    rng = random.Random(seed)
    good, fair, bad, out = State(), State(450, 0.3), State(1200, 0.5), State(out=True)
    drive: list[State] = []
    while len(drive) < turns:
        drive += [rng.choices((good, fair, bad, out), (5, 3, 2, 1))[0]] * rng.randrange(2, 10)
    return {
        "calm": [good] * turns,
        "spikes": [State(spikes=0.05)] * turns,
        "busy": [(good, State(700, 0.3))[n // 30 % 2] for n in range(turns)],
        "drift": [State(200 + 700 * abs((n / 180) % 2 - 1)) for n in range(turns)],
        "drive": drive[:turns],
    }


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, and what was drawn for it."""

    question: str
    state: State
    cloud_ms: float
    edge_ms: float


class _Replaying:
    """A backend that says what was recorded, when it was drawn. `tokens`: what it was asked for and has said."""

    def __init__(self, answers: dict[str, list[str]], token_s: float, first_ms: Callable[[], float | None]) -> None:
        self.abilities = Abilities(continues="prefix")
        self.name = "a replayed model"
        self.tokens = 0
        self._answers, self._token_s, self._first_ms = answers, token_s, first_ms

    async def open(self) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""

    async def prefill(self, request: Request) -> None:
        """Nothing."""

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Say it."""
        self.tokens += tokens_of(request.messages)
        first_ms = self._first_ms()
        await asyncio.sleep(3600 if first_ms is None else first_ms / 1e3)
        question = next(message.text for message in reversed(request.messages) if message.role == "user")
        for text in self._answers.get(question, ["Yes."])[: request.max_tokens]:  # a trial asks something of its own
            self.tokens += 1
            yield Text(text)
            await asyncio.sleep(self._token_s)
        yield Finish()


@dataclass(slots=True)
class World:
    """Where a system is tried: the turn under way, and both backends."""

    turn: Turn
    edge: _Replaying
    cloud: _Replaying

    @classmethod
    def of(cls, turns: Sequence[Turn]) -> World:
        answers = {name: {q: a["tokens"] for q, a in recorded()[name].items()} for name in (EDGE, CLOUD)}
        edge = _Replaying(answers[EDGE], EDGE_TOKEN_S, lambda: world.turn.edge_ms)
        cloud = _Replaying(answers[CLOUD], CLOUD_TOKEN_S, lambda: None if world.turn.state.out else world.turn.cloud_ms)
        world = cls(turns[0], edge, cloud)
        return world

    def system(self, name: str) -> Backend:
        """By name."""
        if name == "fallback-5s":
            return Restarting.over([self.cloud, self.edge])
        members = {
            "edge": Member(where="edge", quality=0.5),
            "cloud": Member(where="cloud", quality=0.9, cost=1.0),
        }
        made: dict[str, Backend] = {"edge": self.edge, "cloud": self.cloud}
        if name.startswith("static-"):
            one = name.removeprefix("static-")
            patient = PoolPolicy.model_validate({"first_text_within": f"{PATIENCE_S:g}s", "probe_every": None})
            return Pool({one: members[one]}, patient, made=made)
        hedge = {} if name.endswith("unhedged") else {"hedge_after": "auto"}
        return Pool(members, PoolPolicy.model_validate(_POLICY | hedge), made=made)


def draw(states: Sequence[State], seed: int) -> list[Turn]:
    """The turns of a trace."""
    rng = random.Random(seed)
    asked = [question for group in templates().values() for question in group]
    turns = []
    for state in states:
        cloud_ms = state.first_ms * rng.lognormvariate(0, state.spread) * (6 if rng.random() < state.spikes else 1)
        turns.append(Turn(rng.choice(asked), state, cloud_ms, EDGE_FIRST_MS * rng.lognormvariate(0, 0.2)))
    return turns


@dataclass(slots=True)
class _Answer:
    clause_ms: float
    text: str


def measure(result: Result, quick: bool) -> None:
    """Rows per trace and system."""
    systems = (OURS, f"{OURS}-unhedged", "static-edge", "static-cloud", "fallback-5s")
    cells = traces(QUICK if quick else TURNS, SEEDS[0])
    result.rounds.expect(len(cells) * len(systems))
    patterns = {question: pattern for group in templates().values() for question, pattern in group.items()}
    for case, states in cells.items():
        turns = draw(states, SEEDS[1])
        tokens: dict[str, int] = {}
        found: dict[str, list[_Answer]] = {}
        for system in systems:
            world = World.of(turns)
            ask = partial(converse, world, system, turns)
            found[system] = result.rounds.ours(f"{case}, {len(turns)} turns", ask, system=system)
            tokens[system] = world.cloud.tokens
        pairs = zip(found["static-cloud"], found["static-edge"], strict=True)
        found["oracle"] = [cloud if cloud.clause_ms <= WITHIN_MS else edge for cloud, edge in pairs]
        for system, answers in found.items():
            in_time = [answer.clause_ms <= WITHIN_MS for answer in answers]
            right = [patterns[t.question].search(a.text) is not None for t, a in zip(turns, answers, strict=True)]
            both = [a and b for a, b in zip(in_time, right, strict=True)]
            n = len(turns)
            shares = {"in_time": sum(in_time), "right": sum(right), "right_in_time": sum(both)}
            result.add(case, system, n, "%", **{name: 100 * count / n for name, count in shares.items()})
            if system in tokens:
                result.add(case, system, n, "%", cloud_tokens=100 * tokens[system] / max(1, tokens["static-cloud"]))
            clauses = [answer.clause_ms for answer in answers]
            result.add(case, system, n, "ms", clause_p50=quantile(clauses, 0.5), clause_p99=quantile(clauses, 0.99))


def converse(world: World, system: str, turns: Sequence[Turn]) -> list[_Answer]:
    """Each turn's answer."""
    return run_virtual(_converse(world, world.system(system), turns))


async def _converse(world: World, system: Backend, turns: Sequence[Turn]) -> list[_Answer]:
    loop, found = asyncio.get_running_loop(), []
    await system.open()
    for n, turn in enumerate(turns):
        await asyncio.sleep(max(0.0, (n + 1) * EVERY_S - loop.time()))
        world.turn = turn
        began_s, speech, said, clause_ms = loop.time(), Speech(), "", 1e3 * PATIENCE_S
        request = Request(messages=[Message("system", _SYSTEM), Message("user", turn.question)], max_tokens=40)
        try:
            async with asyncio.timeout(PATIENCE_S), aclosing(system.reply(request)) as deltas:
                async for delta in deltas:
                    if isinstance(delta, Text | Finish):
                        text = delta.text if isinstance(delta, Text) else None
                        said += text or ""
                        if speech.add(0.0, text):
                            clause_ms = min(clause_ms, 1e3 * (loop.time() - began_s))
        except (BackendError, TimeoutError):
            pass
        found.append(_Answer(clause_ms, said))
    await system.close()
    return found
