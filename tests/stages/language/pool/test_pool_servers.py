"""`language.chat` over several model servers, each of which fails in every way there is, over real HTTP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.conftest import require_package
from tests.stages.language.test_chat import Ask, Tokens
from thalweg.deploy.bench.language.modelserver import FAULTS, ModelServer
from thalweg.deploy.runtime.worker import Worker
from thalweg.models.language.backend import Message, Request
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.handoff.breaker import BreakerState
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import describe
from thalweg.stages.language.chat import Chat
from thalweg.stages.language.pool.pool import Member, Pool, PoolPolicy

ANSWER = "The capital of France is Paris, which lies on the river Seine, in the north of the country."
BEGUN = ("dies", "ends", "no reason", "stalls", "pings in between", "late error")
"""Of `FAULTS`, those that say something first."""
POLICY = {"first_text_within": "600ms", "stall": "250ms", "connect_within": "600ms", "probe_every": None}

pytestmark = pytest.mark.real  # real servers and a real clock: limits that a busy machine keeps


class Conversation:
    """Two servers, `cloud` asked first, and turns put to one chat. `said`: by turn; `problems`: what went wrong."""

    def __init__(self, cloud: ModelServer, house: ModelServer) -> None:
        self.cloud, self.house = cloud, house
        self.policy: dict[str, Any] = dict(POLICY)
        self.members: dict[str, Any] = {}
        self.chat_settings: dict[str, Any] = {}
        self.source: type[Ask] = Ask
        self.said: list[str] = []
        self.problems: list[str] = []
        self.chat: Chat | None = None

    async def ask(self, *questions: str) -> None:
        """In one conversation, a new one with each call."""
        backends: dict[str, dict[str, Any]] = {
            "house": {"model": "m", "url": self.house.url, "where": "fog", "quality": 0.5, "continues": "prefix"},
            "cloud": {"model": "m", "url": self.cloud.url, "where": "cloud", "quality": 0.9, "continues": "prefix"},
        }
        for name, settings in self.members.items():
            backends[name] = backends.get(name, {}) | settings
        given = {"backends": backends, "policy": self.policy} | self.chat_settings
        self.chat = Chat(**describe(Chat).check(given))
        graph = Graph(name="chat")
        sink = Tokens()
        graph.add("ask", self.source(questions))
        graph.add("chat", self.chat)
        graph.add("sink", sink)
        graph.connect("ask", "chat")
        graph.connect("chat", "sink")
        worker = Worker(graph)
        async with asyncio.timeout(30):
            await worker.run()
        replies: dict[int, str] = {}
        for emitted in sink.emitted:
            assert isinstance(emitted.payload, Token)
            epoch = emitted.packet.epoch
            replies[epoch] = replies.get(epoch, "") + emitted.payload.text + "|" * emitted.payload.last
        self.said = [reply.removesuffix("|").strip() for reply in replies.values()]
        self.problems = [problem.message for problem in worker.problems]

    @property
    def counts(self) -> dict[str, int]:
        """Of the newest chat."""
        assert self.chat is not None
        return self.chat.counts


def conversing(case: Callable[[Conversation], Awaitable[None]]) -> None:
    """Run a case with two servers that are well."""
    require_package("httpx", "language")

    async def main() -> None:
        async with ModelServer(ANSWER) as cloud, ModelServer(ANSWER) as house:
            await case(Conversation(cloud, house))

    asyncio.run(main())


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_one_server_does_the_answer_is_said_once_and_whole(fault: str) -> None:
    async def case(talk: Conversation) -> None:
        talk.cloud.fault = fault
        await talk.ask("What is the capital of France?")
        assert (talk.said, talk.problems) == ([ANSWER], [])
        assert talk.counts["switches"] == (fault in BEGUN)
        assert talk.counts["answered_house"] == 1

    conversing(case)


@pytest.mark.parametrize("continues", ["prefix", "instruct", "none"])
@pytest.mark.parametrize("at", [1, 2, 7, 20])
def test_an_answer_reset_in_mid_word_is_finished_however_the_other_can_go_on(at: int, continues: str) -> None:
    async def case(talk: Conversation) -> None:
        talk.cloud.fault, talk.cloud.at, talk.house.continues = "dies", at, continues
        talk.members["house"] = {"continues": continues}
        await talk.ask("What is the capital of France?")
        assert (talk.said, talk.problems) == ([ANSWER], [])

    conversing(case)


@asynccontextmanager
async def full() -> AsyncIterator[str]:
    """An address that drops every attempt to connect, as a link that is down does."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        await asyncio.sleep(0)
        assert loop.is_running()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


def test_a_link_that_takes_no_connection_is_given_up_by_the_limit_for_connecting() -> None:
    async def case(talk: Conversation) -> None:
        async with full() as url:
            talk.members["cloud"] = {"url": url}
            talk.policy["first_text_within"] = "5s"
            await talk.ask("What is the capital of France?")
        assert (talk.said, talk.problems) == ([ANSWER], [])
        assert talk.counts["failed_cloud"] == 1

    conversing(case)


def test_where_all_are_down_the_turn_fails_with_the_reason_of_each_and_the_next_is_answered_when_both_are_back() -> (
    None
):
    async def case(talk: Conversation) -> None:
        await talk.cloud.stop()
        await talk.house.stop()
        await talk.ask("What is the capital of France?")
        (problem,) = talk.problems
        assert "cloud: cannot be reached" in problem and "house: cannot be reached" in problem
        assert talk.said == []
        await talk.cloud.start()
        await talk.house.start()
        await talk.ask("What is the capital of France?")
        assert (talk.said, talk.problems) == ([ANSWER], [])
        assert talk.counts["answered_cloud"] == 1

    conversing(case)


def test_a_link_that_comes_and_goes_costs_no_turn_and_is_left_alone_after_two_failures() -> None:
    async def case(talk: Conversation) -> None:
        talk.cloud.faults = ["dies", "none", "half-open", "dies", "none"]
        await talk.ask(*["What is the capital of France?"] * 6)
        assert (talk.said, talk.problems) == ([ANSWER] * 6, [])
        assert talk.counts["asked_cloud"] == 4, "left alone after the second failure in a row"
        assert talk.counts["answered_cloud"] == 1

    conversing(case)


def test_one_that_would_go_on_with_an_answer_that_is_whole_is_back_once_it_was_tried() -> None:
    async def case(talk: Conversation) -> None:
        members = {
            "cloud": Member.model_validate({"model": "m", "url": talk.cloud.url, "quality": 0.9}),
            "house": Member.model_validate({"model": "m", "url": talk.house.url, "quality": 0.5}),
        }
        tested = Pool(members, PoolPolicy.model_validate(POLICY | {"probe_every": "30s"}))
        await tested.open()
        cloud = tested._members["cloud"]
        for _ in range(2):
            cloud.breaker.failed(-60_000, "reset")
        question = Request(messages=[Message("user", "What is the capital of France?")], max_tokens=64)
        async for _delta in tested.reply(question):
            pass
        (trying,) = (task for task in asyncio.all_tasks() if task.get_name() == "probing backends")
        await asyncio.wait([trying], timeout=10)
        await tested.close()
        assert cloud.breaker.state is BreakerState.CLOSED, cloud.breaker.reason
        assert cloud.latency.answers == 1
        assert [asked["max_tokens"] for asked in talk.cloud.asked] == [1]

    conversing(case)


def test_one_that_wants_to_be_left_alone_for_a_year_is_not_asked_again_at_once() -> None:
    async def case(talk: Conversation) -> None:
        talk.cloud.fault = "busy"
        await talk.ask("One?", "Two?", "Three?")
        assert (talk.said, talk.problems) == ([ANSWER] * 3, [])
        assert len(talk.cloud.asked) == 1

    conversing(case)


def test_one_that_breaks_off_while_nobody_else_is_there_has_said_what_it_said() -> None:
    async def case(talk: Conversation) -> None:
        talk.cloud.fault, talk.cloud.at = "dies", 7
        await talk.house.stop()
        await talk.ask("What is the capital of France?")
        assert ANSWER.startswith(talk.said[0]) and talk.said[0].endswith("France")
        assert "cloud: broke off" in talk.problems[0]

    conversing(case)


def test_both_at_once_dying_in_mid_answer_end_with_a_third() -> None:
    async def case(talk: Conversation) -> None:
        async with ModelServer(ANSWER) as cellar:
            talk.cloud.fault, talk.cloud.at = "dies", 6
            talk.house.fault, talk.house.at = "stalls", 5
            talk.members["cellar"] = {"model": "m", "url": cellar.url, "where": "fog", "continues": "prefix"}
            talk.members["cellar"]["quality"] = 0.1
            await talk.ask("What is the capital of France?")
        assert (talk.said, talk.problems) == ([ANSWER], [])
        assert talk.counts["switches"] == 2

    conversing(case)


def test_the_patience_for_one_server_is_not_that_for_several() -> None:
    async def case(talk: Conversation) -> None:
        talk.chat_settings["timeout"] = "800ms"
        talk.cloud.fault = talk.house.fault = "black hole"
        talk.members["pocket"] = {"backend": "echo", "where": "edge", "quality": 0.1}
        await talk.ask("What is the capital of France?")
        assert (talk.said, talk.problems) == (["What is the capital of France?"], [])

    conversing(case)


CANARIES = (
    "don't tell anybody, the canary Xyzzy sings",
    "what does Mrs. Quetzalcoatl owe",
    "my card is 4111 1111 1111 1111",
)


@pytest.mark.parametrize("fault", ["none", *FAULTS])
def test_private_words_leave_this_process_under_no_fault(fault: str) -> None:
    async def case(talk: Conversation) -> None:
        talk.cloud.fault = talk.house.fault = fault
        talk.policy |= {"private": ["Quetzalcoatl"], "hedge_after": "10ms", "probe_every": "0s"}
        talk.policy |= {"first_text_within": "600ms", "stall": "200ms"}
        talk.members["pocket"] = {"backend": "echo", "where": "edge", "quality": 0.1}
        for canary in CANARIES:
            await talk.ask("What is the capital of France?", canary, "And what else?")
            assert talk.said[1:] == [canary, "And what else?"]
        for server in (talk.cloud, talk.house):
            assert not [word for word in (b"Xyzzy", b"Quetzalcoatl", b"4111", b"else") if word in server.heard]
        assert b"France" in talk.cloud.heard

    conversing(case)


@pytest.mark.parametrize("fault", FAULTS)
def test_words_that_may_go_no_further_than_the_house_end_there_whatever_it_does(fault: str) -> None:
    async def case(talk: Conversation) -> None:
        talk.house.fault = fault
        talk.policy |= {"privacy": "fog", "hedge_after": "10ms", "probe_every": "0s"}
        await talk.ask("Is the canary Xyzzy well?")
        assert talk.cloud.asked == []
        assert b"Xyzzy" in talk.house.heard

    conversing(case)


def test_where_nobody_may_be_asked_the_person_hears_a_sentence_and_the_operator_reads_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def case(talk: Conversation) -> None:
        await talk.ask("Don't tell anybody: what is the canary's name?", "And its age?")
        assert (talk.said, talk.problems) == (["I cannot answer that at the moment."] * 2, [])
        assert talk.counts["turns_declined"] == 2
        assert talk.cloud.asked == talk.house.asked == []

    conversing(case)
    assert "house: words may not leave the edge; cloud: words may not leave the edge" in caplog.text
