"""What a dearer backend says afterwards to questions that a cheaper one answered alone: counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.stages.language.pool.test_pool import ANSWER, Scripted, ask
from tests.stages.language.pool.test_pool_cascade import SMALL, Sure
from thalweg.deploy.testing import run_virtual
from thalweg.models.language.backend import Message, Request
from thalweg.pipeline.handoff.breaker import BreakerState
from thalweg.stages.language.pool.pool import Member, Pool, PoolPolicy

QUESTION = "what is the capital of france"


def cascade(cloud: Scripted, *, logprob: float = -0.2, alone: bool = False, **policy: Any) -> Pool:
    given = {"cascade": 0.1, "audit": 1.0, "first_clause_within": "5s", "probe_every": None} | policy
    members = {
        "edge": Member(where="edge", quality=0.5),
        "cloud": Member(where="cloud", cost=1, quality=0.6, alone=alone),
    }
    tested = Pool(members, PoolPolicy.model_validate(given), made={"edge": Sure(logprob), "cloud": cloud})
    tested._members["edge"].accepted_from = -1.0
    return tested


def idle(tested: Pool, *questions: str, wait_s: float = 20.0) -> dict[str, int]:
    """What is counted when questions were asked, each followed by silence."""

    async def main() -> None:
        await tested.open()
        for question in questions or (QUESTION,):
            async for _ in tested.reply(Request(messages=[Message("user", question)], max_tokens=64)):
                pass
            await asyncio.sleep(wait_s)
        await tested.close()

    run_virtual(main())
    return {kind: count for kind, count in tested.counts.items() if kind.startswith(("audited", "disagreed"))}


@pytest.mark.parametrize(("said", "disagreed"), [(ANSWER, 1), (SMALL, 0)])
def test_the_dearer_one_is_asked_the_same_and_it_is_counted_whether_it_agrees(said: str, disagreed: int) -> None:
    cloud = Scripted(said)
    tested = cascade(cloud)
    assert idle(tested) == {"audited_cloud": 1, "disagreed_cloud": disagreed}
    (asked,) = cloud.heard
    assert [message.text for message in asked.messages] == [QUESTION]
    assert tested.counts["asked_cloud"] == 0


def test_only_a_share_is_audited() -> None:
    cloud = Scripted()
    assert idle(cascade(cloud, audit=0.25), *[QUESTION] * 9)["audited_cloud"] == len(cloud.heard) == 2
    assert idle(cascade(cloud := Scripted(), audit=0), *[QUESTION] * 9) == {} and cloud.heard == []


def test_no_more_than_the_first_sentence_is_listened_to() -> None:
    closed = asyncio.Event()

    class Long(Scripted):
        async def reply(self, request: Request) -> Any:
            try:
                async for delta in super().reply(request):
                    yield delta
            finally:
                closed.set()

    tested = cascade(Long(f"{SMALL} " + "More of it. " * 1000))
    assert idle(tested, wait_s=4.0)["audited_cloud"] == 1
    assert closed.is_set()


@pytest.mark.parametrize(
    ("question", "given"),
    [
        ("don't tell anybody: where is it", {}),
        (QUESTION, {"privacy": "edge"}),
        (QUESTION, {"private": ["Lyon"]}),
        (QUESTION, {"budget_per_hour": 0.5}),
        (QUESTION, {"alone": True}),
        (QUESTION, {"logprob": -1.5}),
    ],
    ids=["said", "edge only", "private in the answer", "no budget", "alone", "asked itself"],
)
def test_none_is_made_where_the_dearer_one_may_not_be_asked_or_was(question: str, given: dict[str, Any]) -> None:
    cloud = Scripted()
    assert idle(cascade(cloud, **given), question) == {}
    assert len(cloud.heard) == (given.get("logprob") == -1.5)


def test_the_budget_pays_for_it() -> None:
    cloud = Scripted()
    assert idle(cascade(cloud, budget_per_hour=1), QUESTION, QUESTION) == {"audited_cloud": 1, "disagreed_cloud": 1}


@pytest.mark.parametrize("wait_s", [1.0, 2.05])
def test_who_speaks_again_ends_it(wait_s: float) -> None:
    cloud = Scripted()
    tested = cascade(cloud)
    assert idle(tested, QUESTION, "and", wait_s=wait_s) == {}
    assert len(cloud.heard) == (0 if wait_s < 2 else 2)
    assert tested._members["cloud"].breaker.state is BreakerState.CLOSED


def test_the_first_words_of_the_next_turn_end_it() -> None:
    cloud = Scripted(first_s=60)
    tested = cascade(cloud)

    async def main() -> None:
        request = Request(messages=[Message("user", QUESTION)], max_tokens=64)
        async for _ in tested.reply(request):
            pass
        await asyncio.sleep(3)
        assert len(cloud.heard) == 1
        await tested.warm(request)
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "auditing an answer"]

    run_virtual(main())


def test_one_that_fails_then_is_told_as_when_it_is_on_trial() -> None:
    cloud = Scripted(dies_after=0)
    tested = cascade(cloud)
    assert idle(tested, QUESTION, QUESTION) == {}
    assert tested._members["cloud"].breaker.reason == "connection reset"
    assert ask(cascade(Scripted())) == [SMALL]


def test_the_first_words_of_the_next_turn_leave_a_trial_alone() -> None:
    tested = cascade(Scripted(first_s=60), probe_every="1ms")

    async def main() -> list[str]:
        request = Request(messages=[Message("user", QUESTION)], max_tokens=64)
        tested._trials.begin([tested._members["cloud"]], request)
        await asyncio.sleep(1)
        await tested.warm(request)
        found = [task.get_name() for task in asyncio.all_tasks()]
        await tested.close()
        return found

    assert "probing backends" in run_virtual(main())
