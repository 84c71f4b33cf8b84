"""The hub's page: nodes in a table and on a map, the newest events of each. For operators, at an address of its own.

It has no way to change anything, and no script: the browser asks anew every five seconds.
"""

from __future__ import annotations

import asyncio
import time
from html import escape
from typing import Any

from aiohttp import web

from thalweg.deploy.door.front_door import DoorSettings, FrontDoor
from thalweg.deploy.door.refused import CLOSED, Refused
from thalweg.deploy.fleet.hub.map import STYLE, drawn
from thalweg.deploy.fleet.hub.metrics import told
from thalweg.deploy.fleet.hub.overview import newest_events, overview, spots
from thalweg.deploy.fleet.hub.state import HubState
from thalweg.deploy.fleet.hub.told import number_in
from thalweg.deploy.ops.observing.families import MetricsError
from thalweg.pipeline.text import as_json

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;color:#1c2733;background:#fff}"
    "table{border-collapse:collapse;width:100%}"
    "td,th{text-align:left;padding:.3rem .8rem;border-bottom:1px solid #d8dee4;vertical-align:top}"
    ".here{color:#0a6b2d}.away,.cloned,.revoked{color:#b3261e}small{color:#5b6875}"
    "@media(prefers-color-scheme:dark){body{color:#e3e8ee;background:#12181f}td,th{border-color:#2b3640}}"
)
_COLUMNS = ("node", "state", "seen", "runs", "wanted", "pipeline", "waiting here", "received", "lost", "deadlines")


class HubPage:
    """The page's application and door."""

    def __init__(self, state: HubState, host_names: tuple[str, ...] = ()) -> None:
        self.state = state
        self.door = FrontDoor(DoorSettings(host_names=host_names))
        self.application = self.door.application()
        self.application.add_routes(
            [
                web.get("/", self._index),
                web.get("/nodes/{name}", self._node),
                web.get("/nodes.json", self._plain),
                web.get("/metrics", self._metrics),
            ]
        )

    async def _index(self, request: web.Request) -> web.Response:
        found, chart = await asyncio.to_thread(self._seen)
        rows = "".join(map(_row, found))
        heads = "".join(f"<th>{column}</th>" for column in _COLUMNS)
        none = "" if rows else "<p>No node yet: <code>thalweg hub enrol NAME</code> prints a code for one.</p>"
        return _html("Nodes", f"<h1>Nodes</h1><table><tr>{heads}</tr>{rows}</table>{none}{chart}")

    async def _node(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.state.nodes:
            raise Refused(404, "node", "There is no such node.")
        (found,), chart = await asyncio.to_thread(self._seen, name)
        newest = [] if found["unread"] else await asyncio.to_thread(newest_events, self.state, name)
        events = "".join(
            f"<tr><td>{_clock(event['time'])}</td><td>{escape(event['stream'])}</td>"
            f"<td><code>{escape(as_json(event['told']))}</code></td></tr>"
            for event in newest
        )
        state = f"<pre>{escape(as_json(found, indent=2))}</pre>"
        table = f"<table><tr><th>time</th><th>stream</th><th>what</th></tr>{events}</table>"
        return _html(name, f"<h1>{escape(name)}</h1>{chart}<h2>Newest events</h2>{table}<h2>State</h2>{state}")

    def _seen(self, only: str = "") -> tuple[list[dict[str, Any]], str]:
        """Nodes, all or one, and the map of them. Blocking."""
        rows = [row for row in overview(self.state) if only in ("", row["node"])]
        return rows, drawn(spots(self.state, rows))

    async def _plain(self, request: web.Request) -> web.Response:
        return web.Response(
            text=as_json(await asyncio.to_thread(overview, self.state)), content_type="application/json"
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        rows = await asyncio.to_thread(overview, self.state)
        try:
            body, kind = told(rows, request.headers.get("Accept", ""))
        except MetricsError as error:
            raise Refused(501, "metrics", str(error)) from None
        return web.Response(body=body, headers={"Content-Type": kind})


def _row(row: dict[str, Any]) -> str:
    """The row of a node. Every value is escaped here, from any source."""
    safe = {name: escape(str(value)) for name, value in row.items()}
    in_time, late, dropped = (number_in(row["deadlines"], name) for name in ("in_time", "late", "dropped"))
    made = in_time + late + dropped
    runs = f"{safe['current'] if row['current'] else '–'} <small>{safe['phase']}</small>"
    if row["reason"]:
        runs += f"<br><small>{safe['reason']}</small>"
    cells = (
        f'<a href="/nodes/{safe["node"]}">{safe["node"]}</a>',
        f'<span class="{safe["state"].partition(" ")[0]}">{safe["state"]}</span>',
        "–" if row["seen_s"] is None else f"{row['seen_s']:.0f} s ago",
        runs,
        safe["wanted"] if row["wanted"] else "–",
        safe["pipeline"] + (f" <small>rung {safe['rung']}</small>" if row["rung"] else "") + _where(row["places"]),
        safe["waits"],
        escape(_counts(row["received"])),
        escape(_counts(row["lost"])) or "0",
        f"{late + dropped} of {made} missed" if made else "–",
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _where(places: dict[str, str]) -> str:
    """Which stages run where; the reason is on the node's own page."""
    return "".join(
        f"<br><small>{escape(stage)}: {escape(where.partition(', since ')[0])}</small>"
        for stage, where in places.items()
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(seconds)) if 0 <= seconds < 1e11 else "–"


def _html(title: str, body: str) -> web.Response:
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
        f"<title>{escape(title)}</title><style>{_STYLE}{STYLE}</style><body>{body}</body></html>"
    )
    response = web.Response(text=text, content_type="text/html")
    response.headers["Content-Security-Policy"] = f"default-src 'none'; style-src 'unsafe-inline'; {CLOSED}"
    return response
