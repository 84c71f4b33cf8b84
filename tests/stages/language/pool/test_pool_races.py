"""Races between turns, backends and workers, each by its name, under the virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.stages.language.pool.test_pool import ANSWER, Scripted, pool, words
from tests.stages.language.test_drafts import final, interrupt, trial
from thalweg.deploy.testing import Outcome, run_stage
from thalweg.models.language.backend import BackendError, Delta, ErrorKind, Message, Request, Text
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.signal import Signal
from thalweg.stages.language.chat import Chat
from thalweg.stages.language.pool.pool import Member, Pool, PoolPolicy
from thalweg.testing import run_virtual

QUESTION = "what is the capital of france"


def said(outcome: Outcome, epoch: int = 1) -> str:
    tokens = [e for e in outcome.emitted if isinstance(e.payload, Token) and e.packet.epoch == epoch]
    return "".join(e.payload.text for e in tokens if isinstance(e.payload, Token)).strip()


def converse(tested: Pool, *items: Packet | tuple[int, Signal], **settings: Any) -> tuple[Chat, Outcome]:
    chat = Chat(backend=tested, **settings)
    return chat, run_stage(chat, items)


def test_interruption_during_a_switch() -> None:
    edge, cloud = Scripted(first_s=1.0), Scripted(dies_after=3)
    tested = pool(edge=edge, cloud=cloud)
    chat, outcome = converse(tested, final(0, QUESTION), interrupt(800, 2), final(900, "and of italy", 2))
    assert said(outcome) == "The capital of"
    assert said(outcome, 2) == ANSWER
    assert outcome.problems == []
    assert [request.prefix for request in edge.heard] == ["The capital of", "The capital of"]
    assert chat.counts["answered_cloud"] == 0


def test_draft_accepted_while_the_breaker_opens() -> None:
    """The draft's backend dies for the second time in the moment in which the question turns out to be over."""
    cloud = Scripted(dies_after=2)
    tested = pool({"drafts": "any", "probe_every": None}, edge=Scripted(), cloud=cloud)
    tested._members["cloud"].breaker.failed(0, "before")
    chat, outcome = converse(tested, trial(0, QUESTION), final(200, QUESTION), draft=True)
    assert said(outcome) == ANSWER
    assert outcome.problems == []
    assert chat.counts["draft_hits"] == 1
    assert not tested._members["cloud"].breaker.allows(300)


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize("helper", [Member(where="fog", alone=True), Member(where="fog", cost=5)])
def test_draft_accepted_in_mid_answer_whose_backend_dies_then(helper: Member, *, stalls: bool) -> None:
    """Another that is never asked on trial goes on: the question is over by then."""
    edge = Scripted(**({"stalls_after": 7} if stalls else {"dies_after": 7}))  # type: ignore[arg-type]
    members = {"edge": Member(where="edge", quality=0.9), "helper": helper}
    other = Scripted()
    tested = Pool(members, PoolPolicy(prefer="cost"), made={"edge": edge, "helper": other})
    chat, outcome = converse(tested, trial(0, QUESTION), final(250, QUESTION), draft=True, timeout=60_000_000_000)
    assert said(outcome) == ANSWER
    assert outcome.problems == [] and len(edge.heard) == 1
    assert [(r.prefix, r.trial) for r in other.heard] == [("The capital of France is Paris, which", False)]
    assert (chat.counts["draft_hits"], chat.counts["answered_helper"]) == (1, 1)


def test_draft_accepted_after_its_backend_has_died() -> None:
    """Nothing more is made of it: the question is asked anew, of those that may be asked then."""
    members = {"edge": Member(where="edge", quality=0.9), "helper": Member(where="fog", alone=True)}
    other = Scripted()
    tested = Pool(members, PoolPolicy(prefer="cost"), made={"edge": Scripted(dies_after=1), "helper": other})
    chat, outcome = converse(tested, trial(0, QUESTION), final(1_000, QUESTION), draft=True)
    assert said(outcome) == ANSWER
    assert outcome.problems == [] and chat.counts["draft_hits"] == 0
    assert not any(request.trial for request in other.heard)


def test_draft_accepted_while_its_conversation_turns_out_to_be_too_long() -> None:
    """It is asked again with less of the conversation, as a question without a draft is."""

    class Short(Scripted):
        async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
            if len(request.messages) > 4:
                await asyncio.sleep(0.3)
                raise BackendError(ErrorKind.TOO_LONG, "has no room for that")
            async for delta in super().reply(request):
                yield delta

    chat, outcome = converse(
        pool(edge=Short()),
        final(0, "hello"),
        final(5_000, "hello again", 2),
        trial(10_000, QUESTION, 3),
        final(10_200, QUESTION, 3),
        draft=True,
        system="",
    )
    assert said(outcome, 3) == ANSWER
    assert outcome.problems == []
    assert chat.counts["draft_hits"] == 1


def test_both_hedges_at_once() -> None:
    """Both first words come in the same instant: one of them speaks, and nothing of the other is heard."""
    edge, cloud = Scripted(ANSWER.replace("Paris", "Lyon"), first_s=0.2), Scripted(first_s=0.5)
    tested = pool({"hedge_after": "300ms"}, edge=edge, cloud=cloud)
    _, outcome = converse(tested, final(0, QUESTION))
    assert said(outcome) in (ANSWER, edge.answer)
    assert tested.counts["hedges"] == 1
    assert tested.counts["answered_edge"] + tested.counts["answered_cloud"] == 1


class Late(Scripted):
    """Is cancelled, and says another word all the same."""

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            yield Text("Lyon, by the way. ")
            raise


def test_the_loser_late() -> None:
    tested = pool({"hedge_after": "300ms"}, edge=Scripted(), cloud=Late())
    _, outcome = converse(tested, final(0, QUESTION))
    assert said(outcome) == ANSWER


def test_epoch_change_between_choice_and_connection() -> None:
    cloud = Scripted(first_s=1.0)
    tested = pool(edge=Scripted(), cloud=cloud)
    _, outcome = converse(tested, final(0, QUESTION), interrupt(500, 2), final(600, "and of italy", 2))
    assert (said(outcome), said(outcome, 2)) == ("", ANSWER)
    assert len(cloud.heard) == 2
    assert tested._members["cloud"].breaker.allows(2000), "that nobody waited is no failure"


def test_worker_killed_in_mid_continuation() -> None:
    """A new worker goes on from the snapshot before the turn: it is asked again, and answered once and whole."""

    def two() -> Pool:
        return pool(edge=Scripted(first_s=0.3), cloud=Scripted(dies_after=3))

    killed, _ = converse(two(), final(0, "hello"))
    before = killed.snapshot()
    cut = run_stage(killed, [final(0, QUESTION, 2), interrupt(640, 3)])
    assert said(cut, 2) == "The capital of France"
    other = Chat(backend=two())
    other.restore(before)
    outcome = run_stage(other, [final(0, QUESTION, 2)])
    assert said(outcome, 2) == ANSWER
    assert [exchange["asked"] for exchange in other.snapshot()["past"]] == ["hello", QUESTION]


def test_snapshot_during_a_hedge() -> None:
    """It holds the turns before, and nothing of the one under way, which is asked again where it is restored."""
    found: list[dict[str, Any]] = []

    class Snapping(Scripted):
        async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
            found.append(chat.snapshot())
            async for delta in super().reply(request):
                yield delta

    tested = pool({"hedge_after": "300ms"}, edge=Snapping(), cloud=Scripted(first_s=2.0))
    chat = Chat(backend=tested)
    run_stage(chat, [final(0, QUESTION)])
    assert [snapshot["past"] for snapshot in found] == [[]]
    other = Chat(backend=pool(edge=Scripted()))
    other.restore(found[0])
    assert said(run_stage(other, [final(0, QUESTION, 2)]), 2) == ANSWER


def test_private_words_while_a_hedge_is_under_way() -> None:
    """What is being asked goes on as it was; what is said next does not leave the edge."""
    cloud = Scripted(first_s=1.0)
    tested = pool({"hedge_after": "300ms", "private": ["Vanderbilt"]}, edge=Scripted(first_s=1.5), cloud=cloud)
    _, outcome = converse(tested, final(0, QUESTION), final(500, "call Mrs. Vanderbilt", 2))
    assert (said(outcome), said(outcome, 2)) == (ANSWER, ANSWER)
    assert "Vanderbilt" not in words(cloud.heard)


def test_the_clock_jumps_by_an_hour_in_mid_answer() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        tested = pool(edge=Scripted(), cloud=Scripted())
        pieces: list[str] = []
        async for delta in tested.reply(Request(messages=[Message("user", QUESTION)], max_tokens=64)):
            if isinstance(delta, Text):
                pieces.append(delta.text)
                if len(pieces) == 3:
                    loop.clock.advance_to(loop.clock.now_ns() + 3_600_000_000_000)  # type: ignore[attr-defined]
        return "".join(pieces).strip()

    assert run_virtual(main()) == ANSWER


def test_two_answers_at_once_do_not_meet() -> None:
    async def main() -> list[str]:
        tested = pool(edge=Scripted(), cloud=Scripted(dies_after=4))

        async def ask() -> str:
            request = Request(messages=[Message("user", QUESTION)], max_tokens=64)
            return "".join([delta.text async for delta in tested.reply(request) if isinstance(delta, Text)]).strip()

        return list(await asyncio.gather(ask(), ask()))

    assert run_virtual(main()) == [ANSWER] * 2


@pytest.mark.parametrize("kind", [kind for kind in ErrorKind if kind is not ErrorKind.UNSURE])
def test_whatever_kind_of_failure_two_of_them_end_as_one_with_the_reasons_of_both(kind: ErrorKind) -> None:
    tested = pool(edge=Scripted(dies_after=0, error=kind), cloud=Scripted(dies_after=0, error=kind))

    async def main() -> None:
        async for _ in tested.reply(Request(messages=[Message("user", QUESTION)], max_tokens=64)):
            raise AssertionError("nothing was said")

    with pytest.raises(BackendError, match="cloud: connection reset; edge: connection reset") as caught:
        run_virtual(main())
    assert caught.value.kind is kind
