"""The conversations of a server for Prometheus: the families of a pipeline that is up, of all of them together, and
what only a server has (docs/metrics.md).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from aiohttp import web

from thalweg.deploy.door.front_door import FrontDoor
from thalweg.deploy.ops.observing.families import counter, fill, gauge, histogram, info
from thalweg.deploy.ops.observing.metrics import turn_families, worker_families
from thalweg.deploy.server.conversations import Conversations
from thalweg.deploy.server.settings import ServerSettings

if TYPE_CHECKING:
    from prometheus_client import Metric

Exposed = Callable[[str], Awaitable[tuple[bytes, str]]]
"""Gives an exposition with its content type, in the format that an `Accept` asks for."""


def told(body: bytes, kind: str) -> web.Response:
    """An exposition as a response."""
    return web.Response(body=body, headers={"Content-Type": kind})


def metrics_only(exposed: Exposed, settings: ServerSettings) -> tuple[FrontDoor, web.Application]:
    """A server of its own for `/metrics` and health, for a port that the public does not reach."""

    async def metrics(request: web.Request) -> web.StreamResponse:
        return told(*await exposed(request.headers.get("Accept", "")))

    door = FrontDoor(settings.door())
    application = door.application()
    application.add_routes([web.get("/metrics", metrics)])
    return door, application


def families(conversations: Conversations) -> Iterator[Metric]:
    """Of all conversations since the start; counters never fall when one ends."""
    talked = list(conversations.sessions.values())
    whole = conversations.over.with_those_under_way(session.measured() for session in talked)
    yield info(conversations.spec.graph.name)
    yield from worker_families(whole.workers, {})
    yield from turn_families(whole.ledger.started, whole.ledger.outcomes, whole.latencies)
    from_audio = (
        "From a turn's first audio, which `pre_roll` puts before the voice, to the last sound of the answer it cuts off"
    )
    interrupts = histogram("thalweg_interrupt_seconds", from_audio)
    fill(interrupts, [], whole.interrupts)
    answers = histogram("thalweg_answer_seconds", "How long answers sounded")
    fill(answers, [], whole.answers)
    yield from (interrupts, answers)
    yield from _server(conversations)


def _server(conversations: Conversations) -> Iterator[Metric]:
    talked = conversations.sessions.values()
    sessions = gauge("thalweg_sessions", "Conversations now, by state", "state")
    for state, count in Counter(session.state.value for session in talked).items():
        sessions.add_metric([state], count)
    sessions.add_metric(["connecting"], len(conversations.newcomers) + len(conversations.arriving))
    events = counter("thalweg_events", "Sessions begun, ended and refused since the start, by kind", "kind")
    for kind, count in sorted(conversations.counts.items()):
        events.add_metric([kind], count)
    counts = counter("thalweg_counts", "What the stages and calls of all conversations have counted, by kind", "kind")
    for kind, count in sorted(sum((session.counts for session in talked), Counter(conversations.counted)).items()):
        counts.add_metric([kind], count)
    turns = sum(len(session.worker.turns.turns) for session in talked)
    yield from (sessions, events, counts)
    for name, doc, value in (
        ("loop_late_seconds", "How late the event loop is, p95 over four seconds", conversations.load.late_s),
        ("loop_tasks", "Tasks of the event loop", len(asyncio.all_tasks())),
        ("cpu_share", "Share of all processors that it and its children used over 4 s", conversations.load.used),
        ("sessions_limit", "Most conversations at once, set or learned; 0: none is known", conversations.limit or 0),
        ("conversation_turns", "Turns so far of the conversations that are under way", turns),
    ):
        family = gauge(f"thalweg_{name}", doc)
        family.add_metric([], value)
        yield family
