"""Whatever backends, the person and the link do, in whatever order: no word twice, none lost, and each turn ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stages.language.test_drafts import final, interrupt, partial, trial
from thalweg.deploy.testing import Outcome, run_stage
from thalweg.models.language.backend import (
    Abilities,
    BackendError,
    Delta,
    ErrorKind,
    Finish,
    Progress,
    Request,
    Text,
    Thinking,
)
from thalweg.pipeline.duration import MS
from thalweg.pipeline.handoff.breaker import BreakerState
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.signal import Ahead, Signal
from thalweg.stages.language.chat import Chat
from thalweg.stages.language.pool.pool import Member, Pool, PoolPolicy

WORDS = [f"word{n}" for n in range(24)]
ANSWER = " ".join(WORDS[:11]) + ", " + " ".join(WORDS[11:]) + "."
"""Each word but once, so that one that comes twice or is missing is seen. All backends say the same."""
NAME = "Vanderbilt"
FATES = ("says", "dies", "stalls", "pauses", "pings", "spaces", "thinks", "empty", "ends", "busy", "refuses", "late")


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one question: `what`, behind `at` pieces of `size` characters, of which each takes `token_s`."""

    what: str
    at: int
    size: int
    first_s: float
    token_s: float


@dataclass
class Fated:
    """A backend whose questions end as `fates` say, one after the other, and well from then on."""

    continues: Any
    overlap: int
    fates: Sequence[Fate]
    heard: list[Request] = field(default_factory=list)
    open_streams: int = 0

    def __post_init__(self) -> None:
        self.abilities = Abilities(continues=self.continues)
        self.name = "fated"

    async def open(self) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""

    async def prefill(self, request: Request) -> None:
        """Nothing."""

    def _rest(self, request: Request) -> str:
        said = request.prefix
        if "interrupted" in request.messages[-1].text:
            said = request.messages[-2].text
        if self.continues == "none" or not ANSWER.startswith(said):
            return ANSWER
        if self.continues == "instruct":
            again = said.split()[-self.overlap :] if self.overlap else []
            return " ".join([*again, ANSWER[len(said) :].strip()])
        return ANSWER[len(said) :]

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """As it is fated."""
        number = len(self.heard)
        self.heard.append(request)
        fate = self.fates[number] if number < len(self.fates) else Fate("says", 0, 7, 0.1, 0.02)
        self.open_streams += 1
        try:
            await asyncio.sleep(fate.first_s)
            async for delta in self._say(self._rest(request), fate):
                yield delta
        except asyncio.CancelledError:
            if fate.what == "late":
                yield Text("nonsense from the loser ")
            raise
        finally:
            self.open_streams -= 1

    async def _say(self, rest: str, fate: Fate) -> AsyncGenerator[Delta, None]:
        if fate.what == "busy":
            raise BackendError(ErrorKind.BUSY, "status 429", retry_after_s=1e9)
        if fate.what == "refuses":
            raise BackendError(ErrorKind.REFUSED, "status 400")
        if fate.what == "empty":
            rest = ""
        for n, start in enumerate(range(0, len(rest), fate.size)):
            if n == fate.at:
                async for delta in self._fail(fate.what):
                    yield delta
                if fate.what == "ends":
                    return
            yield Text(rest[start : start + fate.size])
            await asyncio.sleep(fate.token_s)
        yield Finish()

    async def _fail(self, what: str) -> AsyncGenerator[Delta, None]:
        if what == "dies":
            raise BackendError(ErrorKind.BROKE_OFF, "connection reset")
        if what == "pauses":
            await asyncio.sleep(1.2)
        if what in ("stalls", "late"):
            await asyncio.sleep(3600)
        while what in ("pings", "spaces"):
            yield Progress("ping") if what == "pings" else Text(" ")
            await asyncio.sleep(0.2)
        for _ in range(5 if what == "thinks" else 0):
            yield Thinking("well ")
            await asyncio.sleep(0.5)


fates = st.builds(
    Fate,
    what=st.sampled_from(FATES),
    at=st.integers(0, 25),
    size=st.integers(1, 12),
    first_s=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    token_s=st.sampled_from([0.0, 0.02, 0.1]),
)
backends = st.builds(
    Fated, st.sampled_from(["prefix", "instruct", "none"]), st.integers(0, 4), st.lists(fates, max_size=6)
)
policies = st.fixed_dictionaries(
    {
        "hedge_after": st.sampled_from([None, "auto", "300ms", "0ms"]),
        "drafts": st.sampled_from(["free", "any"]),
        "probe_every": st.sampled_from([None, "0s", "30s"]),
        "budget_per_hour": st.sampled_from([None, 3.0, 8.0]),
        "private": st.just([NAME]),
        "first_text_within": st.just("2s"),
    }
)
turns = st.lists(
    st.tuples(
        st.sampled_from(["asks", "asks after a draft", "asks otherwise than drafted", "says a name"]),
        st.sampled_from([None, 50, 400, 1500, 4000]),
        st.sampled_from([None, 0, 500, 9000]),
    ),
    min_size=1,
    max_size=4,
)
"""Each: how it is asked, when it is interrupted, ms later, and how much sound there is, ms."""
APART_MS = 40_000


def events(said: Sequence[tuple[str, int | None, int | None]]) -> list[Packet | tuple[int, Signal]]:
    found: list[Packet | tuple[int, Signal]] = []
    for n, (how, stops_ms, ahead_ms) in enumerate(said):
        at, epoch = n * APART_MS, 2 * n + 1
        question = f"question {n}" + (f" about {NAME}" if how == "says a name" else "")
        if how == "asks after a draft":
            found.append(trial(at, question, epoch))
        elif how == "asks otherwise than drafted":
            found += [trial(at, "question", epoch), partial(at + 100, "question and", epoch)]
        found.append(final(at + 300, question, epoch))
        if ahead_ms is not None:
            found.append((at * MS + 400 * MS, Ahead(origin="test", epoch=epoch, ahead_ns=ahead_ms * MS)))
        if stops_ms is not None:
            found.append(interrupt(at + 401 + stops_ms, epoch + 1))
    return found


def spoken(outcome: Outcome, epoch: int) -> list[str]:
    tokens = [e for e in outcome.emitted if isinstance(e.payload, Token) and e.packet.epoch == epoch]
    return "".join(e.payload.text for e in tokens if isinstance(e.payload, Token)).split()


def ended(outcome: Outcome, epoch: int) -> int:
    tokens = [e.payload for e in outcome.emitted if e.packet.epoch == epoch]
    return sum(isinstance(token, Token) and token.last for token in tokens)


@settings(max_examples=50)
@given(st.tuples(backends, backends, backends), policies, turns, st.booleans(), st.booleans())
def test_no_word_comes_twice_none_is_lost_nothing_private_leaves_and_each_turn_ends(
    made: tuple[Fated, Fated, Fated],
    policy: dict[str, Any],
    said: list[tuple[str, int | None, int | None]],
    drafts: bool,
    well: bool,
) -> None:
    """`well`: the backend at the edge, which costs nothing, always answers; then each turn is answered whole."""
    if well:
        made[0].fates = ()
    names = ("edge", "fog", "cloud")
    members = {n: Member(where=n, cost=i, quality=0.5 + 0.1 * i) for i, n in enumerate(names)}
    tested = Pool(members, PoolPolicy.model_validate(policy), made=dict(zip(names, made, strict=True)))
    chat = Chat(backend=tested, draft=drafts, timeout=10_000 * MS)
    outcome = run_stage(chat, events(said))
    problems = [] if well else list(outcome.problems)
    for n, (_, stops_ms, _) in enumerate(said):
        words = spoken(outcome, 2 * n + 1)
        whole = ANSWER.split()
        if words[:1] == ["I"]:  # no model may be asked, and the person is told
            assert not well
            continue
        if words != whole:
            cut = words[-1:] and whole[len(words) - 1].startswith(words[-1])
            assert words[:-1] == whole[: max(0, len(words) - 1)], (words, whole)
            assert not words or cut, (words, whole)
            assert stops_ms is not None or problems, "an answer is whole, or stopped, or is said to have failed"
        if stops_ms is None and words == whole:
            assert ended(outcome, 2 * n + 1) == 1 or problems
    private = next((n for n, (how, *_) in enumerate(said) if how == "says a name"), None)
    for backend in made[1:]:
        texts = [message.text for request in backend.heard for message in request.messages]
        assert not any(NAME in text for text in texts)
        if private is not None:
            assert not any(f"question {n}" in text for text in texts for n in range(private, len(said)))
    assert [backend.open_streams for backend in made] == [0, 0, 0], "nothing is left running"
    for name, member in tested._members.items():
        assert member.breaker.state is BreakerState.BROKEN or member.breaker.allows(1e12), (
            f"{name} is never asked again"
        )
    spent = sum(i * len(backend.heard) for i, backend in enumerate(made))
    assert policy["budget_per_hour"] is None or spent <= policy["budget_per_hour"]
