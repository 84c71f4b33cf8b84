"""Who is connected to while somebody begins to speak, and how often: never one to which words may not go."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.conftest import require_package
from tests.stages.language.pool.test_pool import Scripted
from tests.stages.language.pool.test_pool import pool as pool_of
from tests.stages.language.test_chat import answers
from tests.stages.language.test_chat_going_on import Ctx
from thalweg.deploy.testing import run_virtual
from thalweg.models.language.backend import BackendError, ErrorKind, Message, Request
from thalweg.pipeline.handoff.breaker import BreakerState
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Transcript
from thalweg.stages.language.chat import Chat
from thalweg.stages.language.pool.pool import Pool
from thalweg.stages.language.pool.warming import WITHIN_S, Warming


class Warm(Scripted):
    """One that connects: `warmed` times so far; or fails to, or takes its time."""

    def __init__(self, *, fails: bool = False, takes_s: float = 0.0, **given: Any) -> None:
        super().__init__(**given)
        self.warmed, self.fails, self.takes_s = 0, fails, takes_s

    async def warm(self, request: Request) -> bool:
        self.warmed += 1
        await asyncio.sleep(self.takes_s)
        if self.fails:
            raise BackendError(ErrorKind.UNREACHABLE, "is not there")
        return True


def speak(tested: Pool, *said: str) -> None:
    """Let it connect for each of these, one after the other."""

    async def main() -> None:
        await tested.open()
        for text in said:
            assert not await tested.warm(Request(messages=[Message("user", text)], max_tokens=1))

    run_virtual(main())


def test_the_likely_one_and_the_one_behind_it_are_connected_to_and_not_asked() -> None:
    edge, fog, cloud = Warm(), Warm(), Warm()
    tested = pool_of(edge=edge, fog=fog, cloud=cloud)
    speak(tested, "what is")
    assert [each.warmed for each in (edge, fog, cloud)] == [0, 1, 1]
    assert not edge.heard + fog.heard + cloud.heard
    assert tested.counts == {"warmed_cloud": 1, "warmed_fog": 1}


@pytest.mark.parametrize("policy", [{"privacy": "fog"}, {"privacy": "edge"}])
def test_no_connection_goes_where_no_words_may_go(policy: dict[str, Any]) -> None:
    edge, fog, cloud = Warm(), Warm(), Warm()
    speak(pool_of(policy, edge=edge, fog=fog, cloud=cloud), "what is")
    assert cloud.warmed == 0
    assert fog.warmed == (policy["privacy"] == "fog")


def test_what_is_private_in_the_first_words_keeps_the_connections_here() -> None:
    edge, cloud = Warm(), Warm()
    speak(pool_of(edge=edge, cloud=cloud), "don't tell anybody but", "what is")
    assert (edge.warmed, cloud.warmed) == (2, 0)


def test_one_that_costs_more_than_is_left_is_not_connected_to() -> None:
    edge, cloud = Warm(), Warm()
    speak(pool_of({"budget_per_hour": 0.5}, edge=edge, cloud=cloud), "what is")
    assert (edge.warmed, cloud.warmed) == (1, 0)


def test_a_connection_that_cannot_be_made_is_counted_and_opens_no_breaker() -> None:
    edge, cloud = Warm(), Warm(fails=True)
    tested = pool_of(edge=edge, cloud=cloud)
    speak(tested, *["what is"] * 5)
    assert tested.counts == {"unwarmed_cloud": 5, "warmed_edge": 5}
    assert tested._members["cloud"].breaker.state is BreakerState.CLOSED


def test_it_happens_once_a_turn_and_beside_what_else_happens() -> None:
    backend, counts = Warm(takes_s=0.5), Counter[str]()
    warming = Warming(backend, counts)

    async def main() -> None:
        began_s = asyncio.get_running_loop().time()
        for turn in (1, 1, 2):  # the second turn begins while the first connection is being made
            warming.begin(turn, [])
        assert asyncio.get_running_loop().time() == began_s
        await asyncio.sleep(1)
        for turn in (1, 2, 2, 3):
            warming.begin(turn, [])
            await asyncio.sleep(1)
        await warming.close()
        await warming.close()

    run_virtual(main())
    assert backend.warmed == 3
    assert counts == {"warmed": 3}


def test_one_that_hangs_is_given_up_and_ends_with_the_conversation() -> None:
    backend, counts = Warm(takes_s=3600), Counter[str]()
    warming = Warming(backend, counts)

    async def main() -> None:
        warming.begin(1, [])
        await asyncio.sleep(WITHIN_S + 1)
        assert counts == {"unwarmed": 1}
        warming.begin(2, [])
        await asyncio.sleep(1)
        await warming.close()
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "connecting ahead"]

    run_virtual(main())
    assert backend.warmed == 2


def test_a_backend_that_cannot_connect_ahead_is_left_alone() -> None:
    warming = Warming(Scripted(), Counter())
    warming.begin(1, [])
    run_virtual(warming.close())


def test_a_chat_connects_with_the_first_words_and_asks_over_that_connection() -> None:
    require_package("httpx", "language")
    connections: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(b"")
        connections[-1] = await reader.read(1 << 16)
        if connections[-1]:
            await answers(reader, writer, {})
        writer.close()

    async def main() -> dict[str, int]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        chat, ctx = Chat(model="m", url=url), Ctx()
        await chat.open(ctx)
        for text in ("where", "where is", "where is it?"):
            said = Transcript(text=text, final=text.endswith("?"))
            await chat.process(Packet(stream="transcript", seq=0, time=0, epoch=1, payload=said), ctx)
            await asyncio.sleep(0.05)
            assert [bool(asked) for asked in connections] == [said.final]
        await chat.close()
        server.close()
        return dict(chat.counts)

    assert asyncio.run(main()) == {"warmed": 1}
    assert connections[0].startswith(b"POST /v1/chat/completions")
