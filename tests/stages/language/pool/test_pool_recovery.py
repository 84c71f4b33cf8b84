"""How backends come back to a pool: tried between turns, with what they would be asked anyway, at nobody's expense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.stages.language.pool.test_pool import ANSWER, Scripted, pool
from thalweg.models.language.backend import (
    Backend,
    BackendError,
    Delta,
    ErrorKind,
    Finish,
    Message,
    Reason,
    Request,
    Text,
    Thinking,
)
from thalweg.pipeline.handoff.breaker import BreakerState
from thalweg.stages.language.pool.pool import Member, Pool, PoolPolicy
from thalweg.testing import run_virtual

LONGER_THAN_A_PAUSE_S = 5.0


def after_a_pause(tested: Pool, *names: str) -> Pool:
    """As if these had been down, and may be back."""
    for name in (*names, *names):
        tested._members[name].breaker.failed(-60_000, "reset")
    return tested


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
    assert cloud.heard[2].messages[-2] == Message("assistant", ANSWER + " ")
    assert tested.counts["probed_cloud"] == 2


def test_one_that_spends_its_token_on_thinking_is_back_and_one_that_breaks_off_is_not() -> None:
    class Thinks(Scripted):
        ends = True

        async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
            self.heard.append(request)
            yield Thinking("Well")
            if self.ends:
                yield Finish(Reason.LENGTH)

    for ends in (True, False):
        cloud = Thinks()
        cloud.ends = ends
        tested = after_a_pause(pool(edge=Scripted(), cloud=cloud), "cloud")
        assert converse(tested, 1) == [ANSWER]
        assert tested._members["cloud"].breaker.state is (BreakerState.CLOSED if ends else BreakerState.OPEN)


@pytest.mark.parametrize(
    "refusal",
    [BackendError(ErrorKind.SETTINGS, "status 401"), BackendError(ErrorKind.BUSY, "status 429", retry_after_s=100)],
)
def test_one_that_says_on_trial_that_it_is_not_to_be_asked_is_not_tried_again(refusal: BackendError) -> None:
    class Refuses(Scripted):
        async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
            self.heard.append(request)
            raise refusal
            yield Finish()

    cloud = Refuses()
    tested = after_a_pause(pool(edge=Scripted(), cloud=cloud), "cloud")
    assert converse(tested, 5) == [ANSWER] * 5
    assert len(cloud.heard) == 1


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


def test_nobody_is_tried_with_private_words_that_only_the_answer_said() -> None:
    answer = "You owe it to Mrs. Vanderbilt."
    cloud = Scripted()
    tested = after_a_pause(pool({"private": ["Vanderbilt"]}, edge=Scripted(answer), cloud=cloud), "cloud")
    assert converse(tested, 1) == [answer]
    assert cloud.heard == []


def test_two_on_trial_do_not_cost_more_than_is_left() -> None:
    three = pool({"budget_per_hour": 2.5}, edge=Scripted(), fog=Scripted(), cloud=Scripted())
    tested = after_a_pause(three, "fog", "cloud")
    assert converse(tested, 1) == [ANSWER]
    assert (tested.counts["probed_fog"], tested.counts["probed_cloud"]) == (1, 0)


def test_who_does_things_besides_answering_is_not_tried_and_is_asked_when_its_pause_is_over() -> None:
    robot = Scripted()
    made: dict[str, Backend] = {"edge": Scripted(), "robot": robot}
    members = {"edge": Member(where="edge", quality=0.1), "robot": Member(where="edge", alone=True, quality=0.9)}
    tested = after_a_pause(Pool(members, PoolPolicy(), made=made), "robot")
    assert converse(tested, 2) == [ANSWER] * 2
    assert [request.max_tokens for request in robot.heard] == [64, 64]
    assert tested.counts["answered_robot"] == 2


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


QUESTION = Request(messages=[Message("user", "what is it")], max_tokens=64)


class Hangs(Scripted):
    """Asked for one token it never answers. `hanging`: how many such questions are under way; `clings`: for good."""

    def __init__(self, *, clings: bool = False) -> None:
        super().__init__()
        self.clings, self.hanging = clings, 0

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        if request.max_tokens > 1:
            async for delta in super().reply(request):
                yield delta
            return
        self.heard.append(request)
        self.hanging += 1
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if not self.clings:
                raise
            await asyncio.sleep(3600)
        finally:
            self.hanging -= 1


def on_trial(cloud: Scripted) -> Pool:
    """A pool that will try the cloud behind its next answer."""
    return after_a_pause(pool({"first_text_within": "30s"}, edge=Scripted(), cloud=cloud), "cloud")


async def answer(tested: Pool) -> str:
    return "".join([delta.text async for delta in tested.reply(QUESTION) if isinstance(delta, Text)]).strip()


def trials() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "probing backends"]


def test_a_trial_under_way_ends_when_somebody_speaks_and_the_next_one_when_the_pool_closes() -> None:
    async def main() -> None:
        cloud = Hangs()
        tested = on_trial(cloud)
        assert await answer(tested) == ANSWER
        await asyncio.sleep(1)
        (first,) = trials()
        assert cloud.hanging == 1
        asking = asyncio.create_task(answer(tested))
        await asyncio.sleep(0.05)
        assert (first.cancelled(), cloud.hanging) == (True, 0)
        assert await asking == ANSWER
        await asyncio.sleep(1)
        assert cloud.hanging == 1
        await tested.close()
        assert (trials(), cloud.hanging) == ([], 0)

    run_virtual(main())


def test_of_two_answers_at_once_one_puts_backends_on_trial_and_closing_leaves_nothing_running() -> None:
    async def main() -> None:
        cloud = Hangs()
        tested = on_trial(cloud)
        assert await asyncio.gather(answer(tested), answer(tested)) == [ANSWER] * 2
        await asyncio.sleep(1)
        assert (len(trials()), cloud.hanging) == (1, 1)
        await tested.close()
        assert trials() == []

    run_virtual(main())


def test_a_trial_that_does_not_end_holds_up_no_turn_and_is_said_to_be_left(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> float:
        tested = on_trial(Hangs(clings=True))
        await answer(tested)
        await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        assert await answer(tested) == ANSWER
        return loop.time() - began_s

    assert run_virtual(main()) < 2
    assert "probing backends does not end, 0.25 s after it was told to: it is left behind" in caplog.text
