"""The hub's page: where nodes are and how, what they run and why, and what they have sent; for operators, at an address
of its own.

    GET /                       the page; its parts are at /web/NAME
    GET /fleet.json             nodes and generations
    GET /nodes.json             nodes
    GET /map.svg                a map of them
    GET /nodes/NAME.json        one node: newest events, logs, where each stage runs and why, which pictures there are
    GET /nodes/NAME/picture     the newest picture of a `stream`, as it was sent: the browser decodes it
    GET /metrics                for Prometheus
    POST /rollout /rollback /revoke /video, PUT /files     with the key, see `acting.py`

Each visitor who reaches that address can look. To change something a visitor needs the key in the hub's folder.
The page receives as JSON what nodes report, and inserts it as text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from aiohttp import web

from thalweg.deploy.door.front_door import DoorSettings, FrontDoor
from thalweg.deploy.door.refused import Refused
from thalweg.deploy.fleet.hub.acting import LARGEST_FILE, Acting
from thalweg.deploy.fleet.hub.commanding import AskedVideo
from thalweg.deploy.fleet.hub.fleet_metrics import told
from thalweg.deploy.fleet.hub.map import drawn
from thalweg.deploy.fleet.hub.overview import generations, newest_events, overview, pictures, spots, video_outcomes
from thalweg.deploy.fleet.hub.state import HubState
from thalweg.deploy.ops.observing.families import MetricsError
from thalweg.pipeline.text import as_json

_KINDS = {".html": "text/html", ".svg": "image/svg+xml", ".js": "text/javascript", ".css": "text/css"}


class HubPage:
    """The page's application and door. `calls`: what can be done, by name; without them nothing can. `video`: what was
    asked, by node.
    """

    def __init__(
        self,
        state: HubState,
        calls: Mapping[str, Callable[..., Awaitable[Any]]] | None = None,
        host_names: tuple[str, ...] = (),
        video: Mapping[str, AskedVideo] | None = None,
    ) -> None:
        self.state = state
        self._video = {} if video is None else video
        acting = Acting(state.folder, calls or {})
        self.door = FrontDoor(DoorSettings(host_names=host_names, known_body_bytes=LARGEST_FILE), knows=acting.may)
        self.application = self.door.application()
        self.application.add_routes(
            [
                web.get("/", self._index),
                web.get("/web/{name}", self._part),
                web.get("/fleet.json", self._fleet),
                web.get("/nodes.json", self._plain),
                web.get("/map.svg", self._map),
                web.get("/nodes/{name}.json", self._node),
                web.get("/nodes/{name}/picture", self._picture),
                web.get("/metrics", self._metrics),
                *acting.routes(),
            ]
        )

    async def _index(self, request: web.Request) -> web.Response:
        return _part("index.html")

    async def _part(self, request: web.Request) -> web.Response:
        return _part(request.match_info["name"])

    async def _fleet(self, request: web.Request) -> web.Response:
        def look() -> dict[str, Any]:
            return {
                "time": self.state.clock.now_s(),
                "nodes": overview(self.state),
                "generations": generations(self.state),
            }

        return _json(await asyncio.to_thread(look))

    async def _plain(self, request: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(overview, self.state))

    async def _map(self, request: web.Request) -> web.Response:
        def draw() -> str:
            return drawn(spots(self.state, overview(self.state)))

        return web.Response(text=await asyncio.to_thread(draw), content_type="image/svg+xml")

    async def _node(self, request: web.Request) -> web.Response:
        name = self._known(request)
        self.state.looked_at(name, self.state.clock.now_s())
        return _json(await asyncio.to_thread(self._all_of, name))

    def _all_of(self, name: str) -> dict[str, Any]:
        """Blocking."""
        (row,) = (row for row in overview(self.state) if row["node"] == name)
        seen: tuple[list[Any], list[Any]] = (
            ([], [])
            if row["unread"]
            else (
                newest_events(self.state, name),
                pictures(self.state, name),
            )
        )
        report = self.state.nodes[name].get("report") or {}
        asked = self._video.get(name)
        video = (
            asked.state(report.get("instance"), video_outcomes(self.state, name))
            if asked and not row["unread"]
            else None
        )
        return {"node": row, "events": seen[0], "pictures": seen[1], "log": report.get("log", {}), "video": video}

    async def _picture(self, request: web.Request) -> web.Response:
        name, stream = self._known(request), request.query.get("stream", "")
        found = await asyncio.to_thread(lambda: self.state.records(name).picture(stream))
        if found is None:
            raise Refused(404, "picture", "There is no such picture any more.")
        picture, _ = found
        shown = {"X-Format": picture.format, "X-Width": str(picture.width), "X-Height": str(picture.height)}
        return web.Response(body=picture.data, content_type="application/octet-stream", headers=shown)

    async def _metrics(self, request: web.Request) -> web.Response:
        rows = await asyncio.to_thread(overview, self.state)
        try:
            body, kind = told(rows, request.headers.get("Accept", ""))
        except MetricsError as error:
            raise Refused(501, "metrics", str(error)) from None
        return web.Response(body=body, headers={"Content-Type": kind})

    def _known(self, request: web.Request) -> str:
        name = request.match_info["name"]
        if name not in self.state.nodes:
            raise Refused(404, "node", "There is no such node.")
        return name


def _json(value: Any) -> web.Response:
    return web.Response(text=as_json(value), content_type="application/json")


def _part(name: str) -> web.Response:
    found = {part.name: part for part in files("thalweg.deploy.fleet.hub").joinpath("web").iterdir()}
    kind = _KINDS.get(PurePath(name).suffix)
    if name not in found or kind is None:
        raise web.HTTPNotFound
    return web.Response(body=found[name].read_bytes(), content_type=kind, charset="utf-8")
