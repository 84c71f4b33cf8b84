"""The conversations in the text format of Prometheus."""

from __future__ import annotations

import asyncio
from collections import Counter

from aiohttp import web

from thalweg.deploy.door.front_door import FrontDoor
from thalweg.deploy.server.conversations import Conversations
from thalweg.deploy.server.settings import ServerSettings

HELP = {  # every metric, without `thalweg_` before it
    "sessions": "Conversations now, by state",
    "events_total": "What happened since the start: sessions begun, ended and refused, by kind",
    "loop_late_seconds": "How late the event loop is, p95 over four seconds",
    "loop_tasks": "Tasks of the event loop",
    "cpu_share": "Share of all processors that this process and its children used over four seconds",
    "sessions_limit": "Most conversations at once, set or learned from the time to first sound; 0: none is known",
    "counts_total": "What the stages of all conversations have counted, by kind",
    "conversation_turns": "Turns so far of the conversations that are under way",
}


def told(conversations: Conversations) -> web.Response:
    """The exposition as a response."""
    return web.Response(text=exposition(conversations), content_type="text/plain", charset="utf-8")


def metrics_only(conversations: Conversations, settings: ServerSettings) -> tuple[FrontDoor, web.Application]:
    """A server of its own for `/metrics` and health, for a port that the public does not reach."""

    async def metrics(request: web.Request) -> web.StreamResponse:
        return told(conversations)

    door = FrontDoor(settings.door())
    application = door.application()
    application.add_routes([web.get("/metrics", metrics)])
    return door, application


def exposition(conversations: Conversations) -> str:
    """Every metric with its help and type."""
    states = Counter(session.state.value for session in conversations.sessions.values())
    counted = sum((session.counts for session in conversations.sessions.values()), Counter(conversations.counted))
    turns = sum(len(session.worker.turns.turns) for session in conversations.sessions.values())
    rows: list[tuple[str, str, list[tuple[str, float]]]] = [
        ("sessions", "gauge", [(f'{{state="{state}"}}', count) for state, count in states.items()] or [("", 0)]),
        (
            "events_total",
            "counter",
            [(f'{{kind="{kind}"}}', count) for kind, count in sorted(conversations.counts.items())],
        ),
        ("counts_total", "counter", [(f'{{kind="{kind}"}}', count) for kind, count in sorted(counted.items())]),
        ("loop_late_seconds", "gauge", [("", conversations.load.late_s)]),
        ("loop_tasks", "gauge", [("", len(asyncio.all_tasks()))]),
        ("cpu_share", "gauge", [("", conversations.load.used)]),
        ("sessions_limit", "gauge", [("", conversations.limit or 0)]),
        ("conversation_turns", "gauge", [("", turns)]),
    ]
    lines = []
    for name, kind, values in rows:
        lines += [f"# HELP thalweg_{name} {HELP[name]}", f"# TYPE thalweg_{name} {kind}"]
        lines += [f"thalweg_{name}{labels} {value:g}" for labels, value in values]
    return "\n".join(lines) + "\n"
