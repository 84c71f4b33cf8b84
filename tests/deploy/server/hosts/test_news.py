"""What a host tells of its conversations: of each on its own, and nothing that is too large for the other side."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.deploy.server.hosts.housing import HOUSED, bundle_of
from thalweg.deploy.bench.dialogue.scripted import pipeline
from thalweg.deploy.server.hosts.host import ConversationHost, HostOrder, settings_for_hosts
from thalweg.deploy.server.hosts.news import NEWCOMERS, NewsFeed
from thalweg.deploy.server.hosts.record import HostRecord
from thalweg.deploy.server.session import SessionState
from thalweg.deploy.server.snapshot import MOST_BYTES, Snapshot, snapshot_of
from thalweg.pipeline.dialogue.written import Written


def session(name: str, snapshot: Any, state: SessionState = SessionState.TALKING, untouched: bool = False) -> Any:
    async def asked() -> Snapshot:
        if isinstance(snapshot, Exception):
            raise snapshot
        found: Snapshot = snapshot
        return found

    return SimpleNamespace(
        id=name,
        key="k",
        address="10.0.0.1",
        state=state,
        over=False,
        untouched=untouched,
        call=SimpleNamespace(between_turns=False),
        snapshot=asked,
    )


def conversations_of(*sessions: Any, newcomers: int = 0, waiting: int = 0) -> Any:
    return SimpleNamespace(
        sessions={each.id: each for each in sessions},
        ready=True,
        draining=False,
        limit=None,
        busy=False,
        full=None,
        load=SimpleNamespace(late_s=0.0, used=0.0),
        newcomers={str(number): SimpleNamespace() for number in range(newcomers)},
        arriving={},
        waiting=Counter({"10.0.0.2": waiting}),
    )


def told(*sessions: Any) -> dict[str, dict[str, Any]]:
    """What a front hears after one look at these, as it comes over the link."""
    conversations = conversations_of(*sessions)

    async def look() -> Any:
        news_feed = NewsFeed(conversations)
        await news_feed._look()
        return (await news_feed.next("", -1)).model_dump()

    found: dict[str, dict[str, Any]] = json.loads(json.dumps(asyncio.run(look())))["changed"]
    return found


def test_a_conversation_that_cannot_be_told_of_keeps_nobody_from_hearing_of_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = Snapshot(epoch=3, stages={"chat": {"past": "half a pair: \ud83d"}})
    found = told(session("a-1", ValueError("what somebody said")), session("a-2", good))
    assert found.keys() == {"a-2"} and found["a-2"]["snapshot"]["epoch"] == 3
    assert "ValueError" in caplog.text and "what somebody said" not in caplog.text


@pytest.mark.parametrize(("newcomers", "held"), [(0, 3), (5, 8), (NEWCOMERS, 3 + NEWCOMERS), (100, 3 + NEWCOMERS)])
def test_a_host_counts_as_fuller_by_a_few_newcomers_and_not_by_a_flood(newcomers: int, held: int) -> None:
    there = session("a-1", Snapshot(epoch=3))
    assert NewsFeed(conversations_of(there, newcomers=newcomers, waiting=2)).state().held == held


def test_a_conversation_that_came_from_elsewhere_is_kept_before_its_connection_is_there() -> None:
    came = session("a-1", Snapshot(epoch=3), SessionState.READY)
    new = session("a-2", Snapshot(epoch=0), SessionState.READY, untouched=True)
    found = told(came, new)
    assert found["a-1"]["snapshot"]["epoch"] == 3
    assert found["a-2"]["snapshot"] is None


@pytest.mark.parametrize(("words", "known"), [("heard " * 100, True), ("\u00e4" * (MOST_BYTES // 4), False)])
def test_an_answer_without_end_does_not_make_a_snapshot_that_nobody_takes(words: str, known: bool) -> None:
    deployment: Any = SimpleNamespace(hosts={})
    playout: Any = SimpleNamespace(epoch=2, heard=words)
    found = asyncio.run(snapshot_of(deployment, playout, Written()))
    assert (found.heard is not None) is known
    assert Snapshot.read(found.model_dump()) == found


def test_what_strangers_leave_behind_on_a_host_is_counted_there_and_fills_no_log(tmp_path: Path) -> None:
    async def main() -> int:
        order = HostOrder(
            name="host-1",
            bundle=bundle_of(pipeline()).plain(),
            where=str(tmp_path / "s"),
            settings=settings_for_hosts(HOUSED),
        )
        host = ConversationHost(order)
        there: asyncio.Future[HostRecord] = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            group.create_task(host.run(there.set_result))
            await there
            asyncio.get_running_loop().call_exception_handler({"message": "left", "exception": RuntimeError("x")})
            host.stop()
        return host.conversations.counts["left_errors"]

    assert asyncio.run(main()) == 1
