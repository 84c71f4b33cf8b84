"""Many hosts seen as one: the list of conversations, the log of each, and a trace from the front to the host."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import require_package
from tests.deploy.server.hosts.housing import Housed, asked, host_of, housed
from thalweg.deploy.bench.dialogue.scripted import pipeline
from thalweg.deploy.commands.hosts import HostsError
from thalweg.deploy.commands.sessions import COLUMNS, _again, list_sessions, sum_of, table_of
from thalweg.deploy.server.service import described
from thalweg.deploy.server.session import Session
from thalweg.pipeline.file.spec import load_spec
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, Speech, Transcript
from thalweg.pipeline.stage import Context
from thalweg.stages.io.terminal import _JsonFormatter
from thalweg.transports.webrtc.client import Talker

SAID = "an ear that says so"


class TalkativeEar:
    """Hears nothing, and logs once that it is there: from the loop, or a thread where it is `blocking`."""

    inputs = {"audio": AudioChunk}
    outputs = {"speech": Speech, "transcript": Transcript}
    blocking = True

    def __init__(self) -> None:
        self._said = False

    def process(self, packet: Packet, ctx: Context) -> None:
        if not self._said:
            self._said = True
            logging.getLogger("thalweg.tests").info(SAID)


TALKATIVE = pipeline().replace("thalweg.deploy.bench.dialogue.scripted:Ear", f"{__name__}:TalkativeEar")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What `thalweg --log json` writes."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(_JsonFormatter())
    logger = logging.getLogger("thalweg")
    before, logger.level = logger.level, logging.INFO
    logger.addHandler(handler)
    yield written
    logger.removeHandler(handler)
    logger.level = before


def test_every_line_about_a_conversation_names_it_also_those_of_its_stages(lines: io.StringIO) -> None:
    sessions: list[str] = []

    async def case(there: Housed) -> None:
        async with Talker(there.url) as one, Talker(there.url) as other:
            assert await asked(one, "red") == "red"
            assert await asked(other, "green") == "green"
            sessions.extend([one.session, other.session])

    housed(case, text=TALKATIVE)
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    for session in sessions:
        mine = [line for line in told if line.get("session") == session]
        assert {"placed", "began", "ended"} <= {line.get("event") for line in mine}
        assert [line["message"] for line in mine].count(SAID) == 1
    assert not [line for line in told if "session" in line["message"] and "session" not in line]


def test_a_conversation_that_moved_is_named_with_what_it_was_called_before(lines: io.StringIO) -> None:
    ids: list[str] = []

    async def case(there: Housed) -> None:
        async with Talker(there.url) as talker:
            assert await asked(talker, "red") == "red"
            ids.append(talker.session)
            await there.until(lambda: there.remembers(talker, 1))
            there.lose(host_of(talker))
            await talker.hang_up()
            await talker.connect()
            ids.append(talker.session)

    housed(case)
    moved = [json.loads(line) for line in lines.getvalue().splitlines() if '"moved"' in line]
    assert [(line["was"], line["session"]) for line in moved] == [tuple(ids)]


def test_the_offer_at_the_front_is_the_root_of_the_trace_of_a_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    require_package("opentelemetry.sdk", "dev")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    sessions: list[str] = []

    def spans() -> list[Any]:
        return list(exporter.get_finished_spans())

    async def case(there: Housed) -> None:
        async with Talker(there.url) as talker:
            assert await asked(talker, "red") == "red"
            sessions.append(talker.session)
        await there.until(lambda: any(span.name == "turn" for span in spans()))

    housed(case)
    (session,) = sessions
    (offer,) = [span for span in spans() if span.name == "offer"]
    mine = [span for span in spans() if span.context.trace_id == offer.context.trace_id]
    ids = {span.name: span.context.span_id for span in mine}
    parents = {span.name: span.parent.span_id for span in mine if span.parent is not None}
    assert offer.parent is None and offer.attributes["thalweg.session"] == session
    assert parents["connect"] == ids["offer"]
    assert parents["turn"] == ids["connect"]
    assert {"chat", "voice", "speaker"} <= ids.keys()
    (turn,) = [span for span in mine if span.name == "turn"]
    assert turn.attributes["thalweg.session"] == session


def test_the_command_lists_the_conversations_of_all_hosts(capsys: pytest.CaptureFixture[str]) -> None:
    async def case(there: Housed) -> None:
        async with Talker(there.url) as one, Talker(there.url) as other:
            assert await asked(one, "red") == "red"
            await asyncio.to_thread(list_sessions, there.url, "admin")
            await asyncio.to_thread(list_sessions, there.url, "admin", as_json=True, host=host_of(one))
            assert host_of(one) != host_of(other)
        with pytest.raises(HostsError, match="token"):
            await asyncio.to_thread(list_sessions, there.url, "guess")

    housed(case)
    text, _, plain = capsys.readouterr().out.partition("[")
    head, *rows, total = text.strip().splitlines()
    assert head.split() == list(COLUMNS)
    assert [row.split()[0] for row in rows] == ["host-1", "host-2"]
    assert total == "2 conversations on 2 hosts, 2 talking"
    (mine,) = json.loads("[" + plain)
    assert (mine["state"], mine["floor"], mine["turns"]) == ("talking", "listening", 1)
    assert mine["played_ms"] is mine["played_p95_ms"] is None, "no one has spoken"


def test_how_soon_a_conversation_is_answered_is_told_of_the_last_answer_and_of_the_last_hundred() -> None:
    session = Session(load_spec(pipeline(), "pipeline.yaml"))
    session.answers.played_ms.extend(float(number) for number in range(1, 151))
    told = described(session)
    assert (told["played_ms"], told["played_p95_ms"]) == (150, 145)
    row = table_of([told | {"host": "host-1"}])
    assert [list(column.cells) for column in row.columns][6:8] == [["150 ms"], ["145 ms"]]


def test_a_view_that_is_too_small_for_all_conversations_says_how_many_there_are() -> None:
    many = [{"host": "host-1", "id": f"s{number}", "state": "talking", "age_s": number} for number in range(9)]
    assert table_of(many, most=4).row_count == 4
    assert sum_of(many) == "9 conversations on 1 hosts, 9 talking"


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_view_stays_as_it_was_while_a_server_or_what_is_before_it_is_busy(status: int) -> None:
    before: list[dict[str, Any]] = [{"host": ["a", "b"], "id": "s1", "state": "talking"}]
    assert _again(answering(status), "", before) is before
    assert sum_of(before) == "1 conversations on 1 hosts, 1 talking", "whatever a server calls a host"


def test_a_view_ends_where_the_token_is_not_taken_any_more() -> None:
    with pytest.raises(HostsError):
        _again(answering(401), "", [])


def answering(status: int) -> Any:
    """A server that answers with a status and nothing else."""

    async def ask(method: str, path: str) -> tuple[int, dict[str, Any]]:
        return status, {}

    return SimpleNamespace(ask=ask)
