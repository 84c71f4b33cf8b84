"""How backends come back to a pool: tried between turns, with what they would be asked anyway, at nobody's expense."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.stages.language.test_pool import ANSWER, Scripted, pool
from thalweg.models.language.backend import Backend, BackendError, Message, Request, Text
from thalweg.stages.language.pool import Member, Pool, PoolPolicy
from thalweg.testing import run_virtual

LONGER_THAN_A_PAUSE_S = 5.0


def converse(tested: Pool, questions: int, before: Any = None, text: str = "what is it") -> list[str]:
    """Answers to questions some seconds apart. `before`: called with the number of each."""

    async def main() -> list[str]:
        said = []
        await tested.open()
        for n in range(questions):
            if before is not None:
                before(n)
            request = Request(messages=[Message("user", text)], max_tokens=64)
            try:
                pieces = [delta.text async for delta in tested.reply(request) if isinstance(delta, Text)]
            except BackendError as error:
                pieces = [str(error)]
            said.append("".join(pieces).strip())
            await asyncio.sleep(LONGER_THAN_A_PAUSE_S)
        await tested.close()
        assert len(asyncio.all_tasks()) == 1, "nothing is left running"
        return said

    return run_virtual(main())


def test_one_that_was_down_is_tried_with_one_token_between_turns_and_answers_again() -> None:
    cloud = Scripted(dies_after=0)
    tested = pool(edge=Scripted(), cloud=cloud)

    def mend(n: int) -> None:
        cloud.dies_after = None if n >= 3 else 0

    assert converse(tested, 6, mend) == [ANSWER] * 6
    lengths = [request.max_tokens for request in cloud.heard]
    assert lengths == [64, 64, 1, 1, 64, 64], "twice in vain, tried in vain, tried, and again from then on"
    assert cloud.heard[2].messages[-1] == Message("assistant", ANSWER + " ")
    assert tested.counts["probed_cloud"] == 2


def test_one_that_may_be_back_and_is_not_chosen_is_not_forgotten() -> None:
    edge = Scripted(dies_after=0)
    tested = pool({"probe_every": None}, edge=edge, cloud=Scripted(dies_after=2))

    def only_the_cloud(n: int) -> None:
        edge.dies_after = None if n >= 4 else 0

    said = converse(tested, 6, only_the_cloud)
    assert said[-1] == ANSWER
    assert tested.counts["answered_edge"] >= 1


def test_one_that_stalls_in_every_answer_is_left_alone() -> None:
    cloud = Scripted(stalls_after=3)
    tested = pool({"probe_every": None}, edge=Scripted(), cloud=cloud)
    assert converse(tested, 2) == [ANSWER] * 2
    assert len(cloud.heard) == 2
    assert not tested._members["cloud"].breaker.allows(0)


@pytest.mark.parametrize("policy", [{"private": ["Vanderbilt"]}, {"budget_per_hour": 2}])
def test_nobody_is_tried_with_words_or_money_that_a_turn_could_not_have(policy: dict[str, Any]) -> None:
    cloud = Scripted(dies_after=0)
    tested = pool(policy, edge=Scripted(), cloud=cloud)
    asked = 0 if "private" in policy else 2
    assert converse(tested, 4, text="Vanderbilt's address") == [ANSWER] * 4
    assert len(cloud.heard) == asked


def test_what_was_private_before_a_worker_was_lost_is_private_in_the_new_one() -> None:
    cloud = Scripted()
    tested = pool({"private": ["Vanderbilt"]}, edge=Scripted(), cloud=cloud)
    past = [Message("user", "Call Mrs. Vanderbilt"), Message("assistant", "Done."), Message("user", "and again")]

    async def main() -> str:
        return "".join(
            [d.text async for d in tested.reply(Request(messages=past, max_tokens=64)) if isinstance(d, Text)]
        )

    assert run_virtual(main()).strip() == ANSWER
    assert cloud.heard == []


def test_a_budget_that_is_spent_in_mid_answer_is_not_overdrawn_by_who_takes_over() -> None:
    made: dict[str, Backend] = {"edge": Scripted(), "fog": Scripted(), "cloud": Scripted(dies_after=3)}
    costs = {"edge": 0, "fog": 3, "cloud": 2}
    members = {name: Member(where=name, cost=cost, quality=0.5 + 0.1 * cost) for name, cost in costs.items()}
    members["cloud"] = members["cloud"].model_copy(update={"quality": 1.0})
    tested = Pool(members, PoolPolicy(budget_per_hour=4), made=made)
    assert converse(tested, 1) == [ANSWER]
    assert tested.counts["asked_fog"] == 0
    assert tested.counts["answered_edge"] == 1
