"""A conversation that is kept in the cloud: streamed from there, and finished at the edge where the cloud is lost."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import require_package
from tests.deploy.fleet.cloud_chat import ANSWER, TOKEN_S, Conversation, Said, conversing
from thalweg.pipeline.signal import Played

pytestmark = pytest.mark.real


def lose(talk: Conversation, harm: str) -> None:
    if harm == "worker killed":
        talk.lender.kill(talk.lender.pids()[1])
    elif harm == "lender killed":
        talk.lender.signal(signal.SIGKILL)
    else:
        talk.cable.cut(*harm.split()[1:])


def told(asked: dict[str, object]) -> list[tuple[str, str]]:
    """The conversation in a question to a model server, without the system prompt."""
    messages = asked["messages"]
    assert isinstance(messages, list)
    return [(each["role"], each["content"]) for each in messages if each["role"] != "system"]


@pytest.mark.parametrize("harm", ["worker killed", "lender killed", "cut", "cut down"])
def test_an_answer_of_the_cloud_that_is_lost_is_finished_by_the_edge_in_the_same_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    require_package("cryptography", "edge")

    async def converse() -> None:
        async with conversing(tmp_path, monkeypatch) as talk:
            talk.ask("one?")
            await talk.until(lambda: talk.is_over(1))
            assert talk.said(1) == ANSWER and talk.edge.asked == []
            assert talk.span_s(1) > 20 * TOKEN_S  # as it was said, not all at its end
            talk.ask("two?")
            await talk.until(lambda: len(talk.said(2).split()) >= 8)
            lose(talk, harm)
            await talk.until(lambda: talk.is_over(2))
            assert talk.place == "edge" and talk.said(2) == ANSWER
            (asked,) = [told(each) for each in talk.edge.asked]
            begun = asked.pop()
            assert asked == [("user", "one?"), ("assistant", ANSWER), ("user", "two?")]
            assert begun[0] == "assistant" and ANSWER.startswith(f"{begun[1]} ") and len(begun[1].split()) >= 8
            talk.cable.mend()
            await asyncio.sleep(0.2)  # what was held back on the way comes, and is not believed
            assert talk.said(2) == ANSWER
            talk.ask("three?")
            await talk.until(lambda: talk.is_over(3))
            assert told([*talk.edge.asked, *talk.cloud.asked[2:]][-1])[2:] == [
                ("user", "two?"),
                ("assistant", ANSWER),
                ("user", "three?"),
            ]
            assert talk.said(3) == ANSWER and talk.crossed == ({"Transcript"}, {"Token"})

    asyncio.run(converse())


def test_an_interrupt_ends_an_answer_in_the_cloud_and_the_next_question_is_asked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_package("cryptography", "edge")

    async def converse() -> None:
        async with conversing(tmp_path, monkeypatch) as talk:
            talk.cloud.token_s = 0.3
            talk.ask("one?")
            await talk.until(lambda: len(talk.said(1).split()) >= 2)
            talk.ask("two?")
            began_s = time.monotonic()
            await talk.until(lambda: len(talk.cloud.asked) == 2)
            assert time.monotonic() - began_s < 10  # the rest of the first answer takes 14 s
            talk.cloud.token_s = 0.0
            await talk.until(lambda: talk.is_over(2))
            assert talk.said(2) == ANSWER and not talk.is_over(1) and talk.edge.asked == []
            assert {turn for turn, *_ in Said.tokens} == {1, 2}

    asyncio.run(converse())


def test_of_a_private_turn_nothing_crosses_and_the_conversation_stays_at_the_edge_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_package("cryptography", "edge")

    async def converse() -> None:
        async with conversing(tmp_path, monkeypatch) as talk:
            talk.edge.answer = "The Xyzzy is safe."
            talk.ask("tell me of Paris?")
            await talk.until(lambda: talk.is_over(1))
            assert talk.said(1) == ANSWER and b"tell me of Paris?" in talk.sent
            talk.ask("my Plugh is blue but don't tell anybody")
            await talk.until(lambda: talk.is_over(2))
            assert talk.said(2) == "The Xyzzy is safe." and talk.place == "edge"
            told_before = len(talk.sent)
            talk.stage.on_signal(Played(origin="said", epoch=2, text="The Xyzzy", complete=False), talk.stage._ctx)
            talk.ask("what colour is it?")
            await talk.until(lambda: talk.is_over(3))
            await asyncio.sleep(0.5)  # a lender that was given back is not asked again
            assert talk.place == "edge" and not talk.stage._leases() and talk.stage.counts["moved"] == 2
            assert told(talk.edge.asked[-1]) == [
                ("user", "tell me of Paris?"),
                ("assistant", ANSWER),
                ("user", "my Plugh is blue but don't tell anybody"),
                ("assistant", "The Xyzzy"),
                ("user", "what colour is it?"),
            ]
            assert len(talk.cloud.asked) == 1 and talk.edge.asked[0]["messages"][-1]["content"].startswith("my Plugh")
            for word in (b"Plugh", b"Xyzzy", b"anybody", b"colour"):
                assert word not in talk.sent and word not in talk.cloud.heard
            assert len(talk.sent) - told_before < 500  # no more than beats

    asyncio.run(converse())
