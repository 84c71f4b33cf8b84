"""Whom a front asks, and what it does with what it is told: hosts here are what the test says they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from thalweg.deploy.door.refused import Refused
from thalweg.deploy.server.hosts.front import Front
from thalweg.deploy.server.hosts.link import HostLink, HostLost, LinkState
from thalweg.deploy.server.hosts.news import HostState, News, SessionNews, key_digest
from thalweg.deploy.server.hosts.private_server import MOVING
from thalweg.deploy.server.hosts.record import HostRecord
from thalweg.deploy.server.service import ConnectRequest
from thalweg.deploy.server.settings import ServerSettings

ANSWER = {"session": "host-2-abcdefghijkl", "key": "k", "sdp": "s", "notes": []}
OFFER: Any = None  # which passes through a front unread


class Scripted(HostLink):
    """Answers what is left of a list, one after the other: an error is raised."""

    def answers(self, *left: Any) -> None:
        self.left = list(left)

    async def ask(self, path: str, body: Mapping[str, Any], *, within_s: float = 30.0) -> dict[str, Any]:
        found = self.left.pop(0)
        if isinstance(found, Exception):
            raise found
        return dict(found)


def front_with(**hosts: list[Any]) -> tuple[Front, dict[str, Scripted]]:
    """A front of these hosts, which are up and have nobody; names as they sort."""
    spec: Any = None
    front = Front(spec, ServerSettings(), "p")
    links = {}
    for name, answers in hosts.items():
        name = name.replace("_", "-")
        record = HostRecord(name=name, url="unix:/x", token="t" * 40, version="1", protocol=1, pipeline="p")
        link = Scripted(record, "p", lambda link, news: None)
        link.state, link.told = LinkState.UP, HostState()
        link.answers(*answers)
        links[name] = front.links[name] = link
    return front, links


def coming() -> ConnectRequest:
    return ConnectRequest(offer=OFFER, sdp="s", address="10.0.0.1")


@pytest.mark.parametrize(
    "first",
    [
        HostLost("it is gone"),
        Refused(503, "busy", "Everybody talks."),
        Refused(429, "came-to-nothing", "Your last 2 connections came to nothing."),
    ],
)
def test_whom_one_host_does_not_take_is_sent_to_the_next(first: Exception) -> None:
    front, _ = front_with(host_1=[first], host_2=[ANSWER])
    assert asyncio.run(front.connect(coming())).session == ANSWER["session"]


@pytest.mark.parametrize("snapshot", [{"snapshot": {}}, HostLost("it is gone")])
def test_whom_no_other_host_takes_stays_where_they_are_also_while_their_front_ends(snapshot: Any) -> None:
    stays = {**ANSWER, "session": "host-1-abcdefghijkl"}

    async def case() -> None:
        front, links = front_with(host_1=[Refused(409, MOVING, "It is being emptied."), snapshot, stays])
        running = asyncio.ensure_future(front.run())
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running})
        links["host-1"].state = LinkState.UP
        back = replace(coming(), session=stays["session"], key="k")
        assert (await front.connect(back)).session == stays["session"]

    asyncio.run(case())


def test_whose_connections_come_to_nothing_everywhere_are_told_so() -> None:
    nothing = Refused(429, "came-to-nothing", "Your last 2 connections came to nothing.")
    front, _ = front_with(host_1=[nothing], host_2=[nothing])
    with pytest.raises(Refused) as refused:
        asyncio.run(front.connect(coming()))
    assert refused.value.code == "came-to-nothing"


def test_who_sends_too_much_is_not_passed_on_to_the_next_host() -> None:
    front, links = front_with(host_1=[Refused(429, "expelled", "You sent too much.")], host_2=[ANSWER])
    with pytest.raises(Refused):
        asyncio.run(front.connect(coming()))
    assert links["host-2"].left == [ANSWER]


@pytest.mark.parametrize(("zone", "name"), [("", "host-1"), ("east", "host-2"), ("west", "host-1")])
def test_a_newcomer_is_put_on_a_host_in_the_zone_of_the_front(zone: str, name: str) -> None:
    front, links = front_with(host_1=[ANSWER], host_2=[ANSWER])
    front.settings = replace(front.settings, zone=zone)
    for link, where in zip(links.values(), ("west", "east"), strict=True):
        link.record = link.record.model_copy(update={"zone": where})
    asyncio.run(front.connect(coming()))
    assert [left for left, link in links.items() if not link.left] == [name]


def test_a_host_of_another_pipeline_is_told_to_empty_itself_until_it_has_heard() -> None:
    front, links = front_with(host_1=[HostLost("not now"), {}, AssertionError("once more")], host_2=[])
    old = links["host-1"]
    old.record = old.record.model_copy(update={"pipeline": "of before"})
    old.state = LinkState.REFUSED
    for _ in range(3):
        asyncio.run(front.empty_others())
    assert old.emptied and len(old.left) == 1


def test_of_a_conversation_that_is_ended_while_its_host_is_lost_nothing_is_kept() -> None:
    front, _ = front_with()
    told = SessionNews(key=key_digest("k"), address="10.0.0.1", state="talking", snapshot={"epoch": 1})
    front.kept.news("a", News(boot="b", number=1, state=HostState(), changed={"a-1": told}, all=["a-1"]), 0.0)
    front.kept.lost("a", 1.0)
    with pytest.raises(Refused):
        asyncio.run(front.end("a-1", "guess"))
    assert front.kept.find("a-1") is not None
    asyncio.run(front.end("a-1", "k"))
    assert front.kept.find("a-1") is None


@pytest.mark.parametrize(("state", "stands"), [("talking", True), ("ready", True), ("away", False)])
def test_a_conversation_whose_host_has_lost_the_connection_does_not_stand(state: str, stands: bool) -> None:
    front, _ = front_with()
    told = SessionNews(key=key_digest("k"), address="10.0.0.1", state=state, snapshot={"epoch": 1})
    front.kept.news("a", News(boot="b", number=1, state=HostState(), changed={"a-1": told}, all=["a-1"]), 0.0)
    assert asyncio.run(front.stands("a-1", "k")) is stands
