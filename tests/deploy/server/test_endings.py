"""How conversations end that nobody hung up: a stage that cannot be made, a pipeline that stops, a race."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
from aiortc import RTCPeerConnection

from tests.deploy.server.serving import PATIENCE_S, SETTINGS, a_good_offer
from thalweg.deploy.door.refused import Refused
from thalweg.deploy.server import pipelines
from thalweg.deploy.server.conversations import Conversations
from thalweg.deploy.server.newcomer import SessionOver
from thalweg.deploy.server.session import Session, SessionState
from thalweg.pipeline.file.spec import Spec
from thalweg.pipeline.graph import Graph, Vertex
from thalweg.pipeline.payload import AudioChunk
from thalweg.pipeline.stage import describe
from thalweg.stages.dialogue.live import LiveMicrophone


class Sink:
    inputs = {"audio": AudioChunk}

    def process(self, packet: Any, ctx: Any) -> None:
        """Take it."""


class Dead:
    outputs = {"audio": AudioChunk}

    async def run(self, ctx: Any) -> None:
        raise RuntimeError("device gone at 10.0.0.7")


class Brief:
    outputs = {"audio": AudioChunk}

    async def run(self, ctx: Any) -> None:
        """Nothing to say."""


def pipeline(source: type, sink: type = Sink) -> Spec:
    graph = Graph()
    for name, made in (("mic", source), ("sink", sink)):
        graph.add_vertex(Vertex(name=name, info=describe(made), make=made))
    graph.connect("mic", "sink")
    return Spec(graph).in_this_process()


class Carrier:
    """A connection that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def send(self, message: str) -> None:
        self.told.append(json.loads(message))

    def send_video(self, time_ns: int, unit: object) -> None:
        raise NotImplementedError


def failing_after(good: int) -> type:
    """A sink whose constructor raises once `good` of them were made."""

    class Scarce(Sink):
        made = 0

        def __init__(self) -> None:
            type(self).made += 1
            if self.made > good:
                raise RuntimeError("no licence left at 10.0.0.7")

    return Scarce


def test_a_pipeline_that_cannot_be_made_is_told_to_the_newcomer_and_everybody_else_talks_on() -> None:
    async def case() -> None:
        conversations = Conversations(pipeline(LiveMicrophone, failing_after(1)), SETTINGS)
        serving = asyncio.create_task(conversations.run())
        async with asyncio.timeout(PATIENCE_S):
            first = await conversations.enter("10.0.0.1")
            with pytest.raises(Refused) as refused:
                await conversations.enter("10.0.0.2")
        assert refused.value.code == "no-pipeline"
        assert "licence" not in str(refused.value) and "10.0.0.7" not in str(refused.value)
        assert not serving.done() and not first.over
        serving.cancel()
        await asyncio.wait([serving])

    asyncio.run(case())


def test_a_pipeline_that_can_be_made_again_lets_the_next_one_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines, "RETRY_S", 0.01)
    scarce = failing_after(0)

    async def case() -> None:
        conversations = Conversations(pipeline(LiveMicrophone, scarce), SETTINGS)
        serving = asyncio.create_task(conversations.run())
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(Refused):
                await conversations.enter("10.0.0.1")
            scarce.made = -100
            while not conversations.ready:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await conversations.enter("10.0.0.1")
        serving.cancel()
        await asyncio.wait([serving])

    asyncio.run(case())


@pytest.mark.parametrize(("source", "code"), [(Dead, "broke"), (Brief, "finished")])
def test_a_pipeline_that_ends_by_itself_ends_its_conversation_and_the_person_is_told(source: type, code: str) -> None:
    async def case() -> None:
        session, carrier = Session(pipeline(source)), Carrier()
        session.call.attach(carrier)
        async with asyncio.timeout(PATIENCE_S):
            await session.run()
        assert session.over and session.state is SessionState.ENDED
        assert [(event["type"], event["code"]) for event in carrier.told] == [("bye", code)]
        assert "10.0.0.7" not in carrier.told[0]["message"]

    asyncio.run(case())


def test_the_log_waits_for_nobody_whose_conversation_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "thalweg")
    session, peer = Session(pipeline(Brief)), Mock()
    session.peer, session.state = peer, SessionState.READY
    session._peer_changed(peer, "open")
    session.end("hung-up", "You have hung up.")
    session._peer_changed(peer, "closed")
    told = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert [each["event"] for each in told] == ["began", "ended"]


def test_a_conversation_that_no_longer_hears_is_ended_though_its_other_stages_go_on() -> None:
    class Deaf(LiveMicrophone):
        async def run(self, ctx: Any) -> None:
            raise RuntimeError("device gone")

    async def case() -> None:
        graph = Graph()
        for name, made in (("mic", Deaf), ("sink", Sink), ("other", LiveMicrophone), ("another", Sink)):
            graph.add_vertex(Vertex(name=name, info=replace(describe(made), use="live.microphone"), make=made))
        graph.connect("mic", "sink")
        graph.connect("other", "another")
        session, carrier = Session(Spec(graph).in_this_process()), Carrier()
        session.call.attach(carrier)
        async with asyncio.timeout(PATIENCE_S):
            await session.run()
        assert carrier.told[-1]["code"] == "broke"

    asyncio.run(case())


def test_pipelines_that_end_at_once_are_not_opened_one_after_the_other_without_a_pause() -> None:
    made = []

    class Counted(Brief):
        def __init__(self) -> None:
            made.append(self)

    async def case() -> None:
        conversations = Conversations(pipeline(Counted), SETTINGS)
        serving = asyncio.create_task(conversations.run())
        async with asyncio.timeout(PATIENCE_S):
            while not conversations.problem:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            with pytest.raises(Refused, match="can be started"):
                conversations.welcome("10.0.0.1")
        serving.cancel()
        await asyncio.wait([serving])

    asyncio.run(case())
    assert len(made) == 1


def test_a_connection_that_was_being_made_when_the_conversation_ended_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = []
    close = RTCPeerConnection.close

    async def noted(self: RTCPeerConnection) -> None:
        closed.append(self)
        await close(self)

    async def case() -> None:
        offer = await a_good_offer()
        monkeypatch.setattr(RTCPeerConnection, "close", noted)
        session = Session(pipeline(LiveMicrophone))
        running = asyncio.create_task(session.run())
        await session.opened()
        connecting = asyncio.create_task(session.connect(offer, []))
        await asyncio.sleep(0)
        session.end("lost", "nobody came back")
        with pytest.raises(SessionOver):
            await connecting
        await running
        assert session.peer is None
        assert [peer.signalingState for peer in closed] == ["closed"]

    asyncio.run(case())
