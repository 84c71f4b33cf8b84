"""When a link is made anew, and when it is left alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from thalweg.deploy.cluster.links import Links
from thalweg.deploy.cluster.remote import WorkerLost
from thalweg.pipeline.file.plan import GRPC, make_plan

EDGE = "a.out -> b.in"


class Host:
    """Counts how often its edges were linked."""

    def __init__(self) -> None:
        self.relinked = 0
        self.name = "b"

    async def relink(self, routes: Any, certificates: Any) -> None:
        self.relinked += 1

    async def listen(self, edges: Any, address: str, certificates: Any) -> dict[str, str]:
        await asyncio.Event().wait()  # never answers
        return {}


def links() -> tuple[Links, Host]:
    plan = make_plan({"a": "subprocess", "b": "subprocess"}, {EDGE: ("a", "b")}, {}, {})
    source = Host()
    made = Links(plan, {"a": source, "b": Host()}, lambda _: False)  # type: ignore[dict-item]
    made.kinds = {EDGE: GRPC}
    made._addresses["b"] = {GRPC: "127.0.0.1:1"}
    made.linked = {"a", "b"}
    return made, source


def test_a_report_from_before_a_link_was_made_does_not_replace_it() -> None:
    async def scenario() -> None:
        made, _ = links()
        asked_s = asyncio.get_running_loop().time()
        await made.relink(EDGE)
        made.lost([EDGE], asked_s)
        assert made.unlinked == set()
        made.lost([EDGE], asyncio.get_running_loop().time() + 1.0)
        assert made.unlinked == {EDGE}

    asyncio.run(scenario())


def test_a_repair_that_waited_for_the_lock_finds_the_edge_linked() -> None:
    async def scenario() -> None:
        made, source = links()
        made.unlinked.add(EDGE)
        async with made.lock:
            mending = asyncio.create_task(made.mend())
            await asyncio.sleep(0.8)  # by now it waits
            await made.relink(EDGE)
        await asyncio.sleep(0.2)
        mending.cancel()
        assert source.relinked == 1

    asyncio.run(scenario())


def test_a_worker_that_does_not_listen_in_time_is_lost_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.deploy.cluster.links.CONTROL_S", 0.05)

    async def scenario() -> None:
        made, _ = links()
        made.certificates = [b""]
        with pytest.raises(WorkerLost, match=r"worker b did not listen for its neighbours within 0\.05 s"):
            await made.listen(Host())  # type: ignore[arg-type]

    asyncio.run(scenario())


def test_an_edge_to_a_worker_that_has_not_said_where_it_listens_waits_unlinked() -> None:
    async def scenario() -> None:
        made, source = links()
        made._addresses["b"] = {}
        await made.relink(EDGE)
        assert (made.unlinked, source.relinked) == ({EDGE}, 0)

    asyncio.run(scenario())
