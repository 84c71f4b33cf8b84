"""Several backends behind one: a sentence that has begun is finished, and private words stay where they may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from thalweg.models.language.backend import (
    Abilities,
    BackendError,
    Delta,
    ErrorKind,
    Finish,
    Message,
    Progress,
    Request,
    Text,
)
from thalweg.pipeline.handoff.privacy import Zone
from thalweg.pipeline.payload import Transcript
from thalweg.pipeline.stage import describe
from thalweg.stages.language.chat import Chat, LanguageModelError
from thalweg.stages.language.pool.pool import Member, Pool, PoolPolicy
from thalweg.testing import packet, run_stage, run_virtual

ANSWER = "The capital of France is Paris, which lies on the river Seine."


class Scripted:
    """Says `words`, and then breaks, stalls or finishes. `heard`: what it was asked."""

    def __init__(
        self,
        answer: str = ANSWER,
        *,
        dies_after: int | None = None,
        stalls_after: int | None = None,
        pings: bool = False,
        continues: Any = "prefix",
        error: ErrorKind = ErrorKind.BROKE_OFF,
        first_s: float = 0.1,
    ) -> None:
        self.abilities = Abilities(continues=continues)
        self.name = "scripted"
        self.answer, self.dies_after, self.stalls_after = answer, dies_after, stalls_after
        self.pings, self.error, self.first_s = pings, error, first_s
        self.heard: list[Request] = []

    async def open(self) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""

    async def prefill(self, request: Request) -> None:
        """Nothing."""

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.heard.append(request)
        await asyncio.sleep(self.first_s)
        while self.pings:
            yield Progress("ping")
            await asyncio.sleep(0.2)
        rest = self.answer.removeprefix(request.prefix) if self.abilities.continues == "prefix" else self.answer
        for i, word in enumerate(rest.split(" ")):
            if i == self.dies_after:
                raise BackendError(self.error, "connection reset")
            if i == self.stalls_after:
                await asyncio.sleep(3600)
            yield Text(word[:1])
            yield Text(word[1:] + " ")
            await asyncio.sleep(0.05)
        yield Finish()


def pool(policy: dict[str, Any] | None = None, **backends: Scripted) -> Pool:
    where = {"edge": "edge", "fog": "fog", "cloud": "cloud"}
    members = {
        name: Member(where=where.get(name, "cloud"), cost=i, quality=0.5 + 0.1 * i) for i, name in enumerate(backends)
    }
    return Pool(members, PoolPolicy.model_validate(policy or {}), made=backends)


def ask(pool: Pool, *questions: str) -> list[str]:
    """The answers to questions, one after another, under the virtual clock."""

    async def main() -> list[str]:
        await pool.open()
        said = []
        for question in questions or ("what is the capital of france",):
            request = Request(messages=[Message("user", question)], max_tokens=64)
            pieces = [delta.text async for delta in pool.reply(request) if isinstance(delta, Text)]
            said.append("".join(pieces).strip())
        return said

    return run_virtual(main())


@pytest.mark.parametrize("continues", ["prefix", "instruct", "none"])
@pytest.mark.parametrize("at", [0, 1, 5, 9])
def test_an_answer_whose_backend_dies_is_finished_by_another_without_a_word_lost_or_doubled(
    continues: str, at: int
) -> None:
    dying, other = Scripted(dies_after=at), Scripted(continues=continues)
    tested = pool(edge=other, cloud=dying)
    assert ask(tested) == [ANSWER]
    assert tested.counts["switches"] == (at > 0)
    assert tested.counts["answered_edge"] == 1


@pytest.mark.parametrize("continues", ["prefix", "instruct"])
def test_one_that_goes_on_is_given_no_white_space_at_the_end_and_none_comes_twice(continues: str) -> None:
    class Tokens(Scripted):
        async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
            self.heard.append(request)
            yield Text(" Paris, which")
            yield Text(" lies on the river Seine.")
            yield Finish()

    other = Tokens(continues=continues)
    tested = pool(edge=other, cloud=Scripted(dies_after=5))
    assert ask(tested) == [ANSWER]
    began = other.heard[0].prefix or other.heard[0].messages[-2].text
    assert began == "The capital of France is"


@pytest.mark.parametrize("continues", ["prefix", "instruct", "none"])
@pytest.mark.parametrize("dies_after", [None, 2])
def test_an_answer_that_was_begun_elsewhere_is_gone_on_with(continues: str, dies_after: int | None) -> None:
    """As `language.chat` asks for it that was in the cloud, and is at the edge now."""
    begun = "The capital of France is"
    tested = pool(edge=Scripted(continues=continues), cloud=Scripted(continues=continues, dies_after=dies_after))

    async def main() -> str:
        await tested.open()
        request = Request(messages=[Message("user", "which?")], max_tokens=64, prefix=begun)
        return "".join([delta.text async for delta in tested.reply(request) if isinstance(delta, Text)])

    said = run_virtual(main())
    assert f"{begun} {said}".split() == ANSWER.split()
    assert tested.abilities.continues == "prefix"


def test_one_that_stalls_in_mid_answer_is_followed_by_another() -> None:
    tested = pool(edge=Scripted(), cloud=Scripted(stalls_after=4))
    assert ask(tested) == [ANSWER]
    assert tested.counts["switches"] == 1


def test_pings_for_ever_and_no_word_end_with_the_budget() -> None:
    tested = pool({"first_text_within": "2s"}, edge=Scripted(), cloud=Scripted(pings=True))
    assert ask(tested) == [ANSWER]
    assert tested.counts["asked_cloud"] == tested.counts["answered_edge"] == 1


class Hasty(Scripted):
    """Pings without a pause between two of them."""

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        while True:
            yield Progress("ping")
            await asyncio.sleep(1e-4)


def test_pings_that_leave_no_time_to_look_at_the_clock_end_with_the_budget_too() -> None:
    tested = pool({"first_text_within": "1s"}, edge=Scripted(), cloud=Hasty())
    assert ask(tested) == [ANSWER]


def test_a_slow_one_is_hedged_and_the_first_word_wins() -> None:
    tested = pool({"hedge_after": "300ms"}, edge=Scripted(), cloud=Scripted(first_s=2.0))
    assert ask(tested) == [ANSWER]
    assert tested.counts["hedges"] == tested.counts["answered_edge"] == 1


def test_by_itself_a_slow_one_is_hedged_when_it_is_later_than_ever_and_the_other_can_be_in_time() -> None:
    cloud = Scripted(first_s=0.2)
    tested = pool({"hedge_after": "auto", "first_clause_within": "1500ms"}, edge=Scripted(), cloud=cloud)
    questions = ["what is it"] * 12
    assert ask(tested, *questions) == [ANSWER] * 12
    assert tested.counts["hedges"] == 0
    cloud.first_s = 5.0
    assert ask(tested, "and now") == [ANSWER]
    assert tested.counts["hedges"] == tested.counts["answered_edge"] == 1


def test_answers_are_drafted_where_they_cost_nothing() -> None:
    def draft(tested: Pool) -> str:
        request = Request(messages=[Message("user", "what is it")], max_tokens=64, trial=True)

        async def main() -> str:
            return "".join([delta.text async for delta in tested.reply(request) if isinstance(delta, Text)]).strip()

        return run_virtual(main())

    assert draft(pool(edge=Scripted())) == ANSWER
    assert draft(pool({"drafts": "any"}, edge=Scripted(), cloud=Scripted())) == ANSWER
    tested = pool(edge=Scripted(), cloud=Scripted())
    ask(tested)
    with pytest.raises(BackendError, match="no answer is drafted by cloud"):
        draft(tested)
    assert tested.routed is None, "what became of the question before is not told again"


@pytest.mark.parametrize("other", [Member(where="fog", alone=True), Member(where="fog", cost=5)])
def test_where_a_draft_fails_none_is_asked_that_drafts_nothing_until_the_question_is_over(other: Member) -> None:
    failing, asked = Scripted(dies_after=0), Scripted()
    members = {"edge": Member(where="edge", quality=0.9), "other": other}
    tested = Pool(members, PoolPolicy(prefer="cost"), made={"edge": failing, "other": asked})

    async def main() -> None:
        async for _ in tested.reply(Request(messages=[Message("user", "what is it")], max_tokens=64, trial=True)):
            pass

    with pytest.raises(BackendError, match="other: it is asked when the question is over") as refused:
        run_virtual(main())
    assert refused.value.kind is ErrorKind.NOBODY and asked.heard == []
    assert ask(tested, "what is it") == [ANSWER] and len(asked.heard) == 1


def test_where_all_fail_the_reasons_of_all_are_said() -> None:
    tested = pool(edge=Scripted(dies_after=0), cloud=Scripted(dies_after=0))
    with pytest.raises(BackendError, match=r"cloud: connection reset; edge: connection reset"):
        ask(tested)


def test_one_that_has_said_a_word_when_it_is_hung_up_on_is_known_by_when_that_came() -> None:
    class Slow(Scripted):
        async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
            await asyncio.sleep(0.4)
            yield Text("The ")
            await asyncio.sleep(60)

    tested = pool({"hedge_after": "300ms", "first_text_within": "30s"}, edge=Scripted(first_s=10), cloud=Slow())
    assert ask(tested) == [ANSWER]
    latency = tested._members["cloud"].latency
    assert (latency.answers, latency.expected_first_ms(0) < 500) == (1, True)


def test_one_that_refuses_its_settings_is_not_asked_again() -> None:
    refusing = Scripted(dies_after=0, error=ErrorKind.SETTINGS)
    tested = pool(edge=Scripted(), cloud=refusing)
    assert ask(tested, "one", "two", "three") == [ANSWER] * 3
    assert len(refusing.heard) == 1


def words(requests: Sequence[Request]) -> str:
    return " ".join(message.text for request in requests for message in request.messages)


def test_private_words_never_reach_the_cloud_whatever_fails() -> None:
    edge, cloud = Scripted(dies_after=3), Scripted()
    tested = pool({"private": ["Vanderbilt"], "hedge_after": "100ms"}, edge=edge, cloud=cloud)
    with pytest.raises(BackendError, match="connection reset"):
        ask(tested, "what does Mrs. Vanderbilt owe")
    assert "Vanderbilt" not in words(cloud.heard)
    assert cloud.heard == []
    assert tested.routes[-1].out == (("cloud", "words may not leave the edge"),)


@pytest.mark.parametrize(
    ("heard", "drafts_elsewhere"),
    [
        ("Where does Ann Vander", False),
        ("Do not tell", False),
        ("My card is 4111 1111 1111 111.", False),
        ("Where is Ann?", True),
    ],
)
def test_a_draft_whose_last_word_may_be_half_of_something_private_stays_at_the_edge(
    heard: str, drafts_elsewhere: bool
) -> None:
    edge, cloud = Scripted(), Scripted()
    tested = pool({"private": ["Vanderbilt"], "drafts": "any"}, edge=edge, cloud=cloud)

    async def main() -> None:
        async for _ in tested.reply(Request(messages=[Message("user", heard)], max_tokens=64, trial=True)):
            pass

    run_virtual(main())
    assert (len(edge.heard), len(cloud.heard)) == ((0, 1) if drafts_elsewhere else (1, 0))
    assert tested.privacy.allows(Zone.CLOUD), "what was not said changes nothing"


def test_private_words_that_an_answer_began_with_are_not_handed_over() -> None:
    edge, cloud = Scripted("You owe it to Mrs. Vanderbilt, I think.", dies_after=6), Scripted()
    tested = pool({"private": ["Vanderbilt"], "prefer": "cost"}, edge=edge, cloud=cloud)
    with pytest.raises(BackendError, match="cloud: words may not leave the edge"):
        ask(tested, "whom do I owe it to")
    assert cloud.heard == []


def test_a_budget_that_is_spent_leaves_the_cheap_ones() -> None:
    tested = pool({"budget_per_hour": 1.5}, edge=Scripted(), cloud=Scripted())
    ask(tested, "one", "two")
    assert tested.counts["answered_cloud"] == tested.counts["answered_edge"] == 1


def test_an_answer_that_nobody_wants_any_more_leaves_nothing_running() -> None:
    async def main() -> int:
        tested = pool(edge=Scripted(), cloud=Scripted())
        reply = tested.reply(Request(messages=[Message("user", "hello")], max_tokens=64))
        async for delta in reply:
            if isinstance(delta, Text):
                break
        await reply.aclose()
        return len(asyncio.all_tasks())

    assert run_virtual(main()) == 1


@pytest.mark.parametrize(
    ("members", "policy", "message"),
    [
        ({}, {}, "`backends` is empty"),
        ({"a": Member(backend="echo", where="cloud")}, {"privacy": "edge"}, "privacy is edge, and no backend is there"),
        ({"a": Member.model_validate({"where": "edge", "url": "http://x/v1"})}, {}, "has a url and says `where: edge`"),
        ({"a": Member.model_validate({"backend": "echo", "speed": 3})}, {}, "backend a: .*speed"),
    ],
)
def test_a_pool_that_cannot_be_is_refused_with_the_reason(
    members: dict[str, Member], policy: dict[str, Any], message: str
) -> None:
    with pytest.raises(BackendError, match=message):
        Pool(members, PoolPolicy.model_validate(policy))


def test_chat_asks_a_pool_where_a_file_names_several_backends() -> None:
    settings = {
        "backends": {
            "pocket": {"backend": "echo", "where": "edge"},
            "house": {"backend": "echo", "where": "fog", "cost": 1},
        },
        "policy": {"privacy": "fog", "first_clause_within": "900ms"},
    }
    chat = Chat(**describe(Chat).check(settings))
    outcome = run_stage(chat, [packet(Transcript(text="hello there", final=True, stable_chars=11), epoch=1)])
    assert "".join(token.text for token in outcome.payloads("token")).strip() == "hello there"
    assert chat.counts["answered_house"] == 1


def test_a_pool_and_a_single_backend_are_not_mixed() -> None:
    with pytest.raises(LanguageModelError, match="stands in place of"):
        Chat(backends={"a": Member(backend="echo")}, url="http://127.0.0.1:1/v1")


class Clinging(Scripted):
    """Does not let itself be cancelled."""

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        yield Text("The ")
        for _ in range(100):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue


def test_a_backend_that_does_not_end_holds_up_no_reply(caplog: pytest.LogCaptureFixture) -> None:
    assert ask(pool(edge=Scripted(), cloud=Clinging())) == [ANSWER]
    assert "backend cloud does not end, 2 s after it was told to: it is left behind" in caplog.text
