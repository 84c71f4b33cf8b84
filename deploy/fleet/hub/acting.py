"""What the hub's page can have done with the key of the hub's folder, `page.key`.

    PUT /files?name=NAME    a file of a release → its SHA-256
    POST /rollout           {pipeline, files: {NAME: SHA-256}, settings, nodes, watch_s, missed, outputs}
                            → generation, nodes
    POST /rollback          {generation, nodes} → generation, nodes
    POST /revoke            {node}
    POST /video             {node, seconds}; 0 ends it
    GET  /key               whether the key that came along is good

The page may be reached by every user of the hub's machine: what it does is signed with the hub's keys, so an address
alone opens nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path, PurePath
from typing import Any

from aiohttp import web

from thalweg.deploy.door.front_door import bearer
from thalweg.deploy.door.refused import Refused
from thalweg.deploy.door.tokens import same_secret
from thalweg.deploy.fleet.given import check_outputs, check_wheels
from thalweg.deploy.reading import read_spec
from thalweg.models.store.bounded import read_text_at_most
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.text import as_json
from thalweg.stages.io.private import create_private
from thalweg.transports.fleet.durable import replace_file

LARGEST_FILE = 64 << 20
"""Of what the page sends, which is held in memory; `thalweg hub rollout` takes larger ones."""
KEY = "page.key"
VALID_S = 10.0
_SHA = frozenset("0123456789abcdef")
_LONGEST_KEY = 1_000
_SHORTEST_KEY = 16


def page_key(folder: Path) -> str:
    """The key of this hub's page, made where there is none, or less: a full disk. Raises OSError."""
    path = folder / KEY
    if not path.exists() or len(read_text_at_most(path, _LONGEST_KEY).strip()) < _SHORTEST_KEY:
        replace_file(path, f"{secrets.token_urlsafe(24)}\n".encode())
    return read_text_at_most(path, _LONGEST_KEY).strip()


class Acting:
    """`calls`: what is done, by name, as the hub's control socket offers it."""

    def __init__(self, folder: Path, calls: Mapping[str, Callable[..., Awaitable[Any]]]) -> None:
        self._folder = folder
        self._calls = calls
        self._key = page_key(folder)

    def routes(self) -> list[web.RouteDef]:
        """See above."""
        return [
            web.get("/key", self._ask),
            web.put("/files", self._file),
            web.post("/rollout", self._rollout),
            web.post("/rollback", self._rollback),
            web.post("/revoke", self._revoke),
            web.post("/video", self._video),
        ]

    def may(self, request: web.Request) -> bool:
        """Whether a request has the key."""
        return same_secret(bearer(request), self._key)

    def _check(self, request: web.Request) -> None:
        if not self.may(request):
            raise Refused(401, "key", f"That needs the key of this hub: it stands in {KEY} of the hub's folder.")

    async def _ask(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.Response(status=204)

    async def _file(self, request: web.Request) -> web.Response:
        self._check(request)
        data = await request.read()
        return _json({"sha256": await asyncio.to_thread(self._keep, data)})

    def _keep(self, data: bytes) -> str:
        """A file that was sent, among the artefacts; it stays there, as that of a release does."""
        sha = hashlib.sha256(data).hexdigest()
        path = self._folder / "artefacts" / sha
        if not path.exists():
            part = path.with_name(f".{secrets.token_hex(8)}")
            with create_private(part) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        return sha

    async def _rollout(self, request: web.Request) -> web.Response:
        asked = await self._asked(request)
        pipeline, outputs = _text(asked, "pipeline"), _texts(asked, "outputs")
        settings = _table(asked, "settings")
        paths = {_name(name): self._artefact(sha) for name, sha in _table(asked, "files").items()}
        if pipeline not in paths:
            raise Refused(400, "bad-request", "The pipeline is none of the files.")
        watch_s, missed = _number(asked, "watch_s", 30, 1, 3600), _number(asked, "missed", 0.05, 0, 1)
        try:
            await asyncio.to_thread(_checked, pipeline, paths, settings, outputs)
        except ThalwegError as error:
            raise Refused(422, "pipeline", str(error)) from None
        gate = {"watch_ns": int(watch_s * 1e9), "missed": missed, "outputs": outputs}
        given = {name: str(path) for name, path in paths.items()}
        return await self._do(
            "rollout", pipeline=pipeline, files=given, settings=settings, nodes=_texts(asked, "nodes"), gate=gate
        )

    async def _rollback(self, request: web.Request) -> web.Response:
        asked = await self._asked(request)
        generation = asked.get("generation")
        if type(generation) is not int or generation < 1:
            raise Refused(400, "bad-request", "Which generation?")
        return await self._do("rollback", generation=generation, nodes=_texts(asked, "nodes"))

    async def _revoke(self, request: web.Request) -> web.Response:
        return await self._do("revoke", name=_text(await self._asked(request), "node"))

    async def _video(self, request: web.Request) -> web.Response:
        asked = await self._asked(request)
        name, seconds = _text(asked, "node"), _number(asked, "seconds", 60, 0, 600)
        return await self._do("command", name=name, action="video", settings={"seconds": seconds}, valid_s=VALID_S)

    async def _do(self, call: str, **arguments: Any) -> web.Response:
        try:
            found = await self._calls[call](**arguments)
        except ThalwegError as error:
            raise Refused(409, call, str(error)) from None
        if not isinstance(found, tuple):
            return _json({})
        generation, nodes = found
        return _json({"generation": generation, "nodes": nodes})

    async def _asked(self, request: web.Request) -> dict[str, Any]:
        """What was asked, by a visitor with the key. Raises Refused."""
        self._check(request)
        try:
            found = json.loads(await request.read())
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise Refused(400, "bad-request", "A JSON object is expected.")
        return found

    def _artefact(self, sha: str) -> Path:
        path = self._folder / "artefacts" / sha
        if len(sha) != 64 or set(sha) - _SHA or not path.exists():
            raise Refused(400, "bad-request", "A file of that hash was not sent.")
        return path


def _checked(pipeline: str, paths: Mapping[str, Path], settings: Mapping[str, str], outputs: list[str]) -> None:
    """Raises ThalwegError where nodes could not run it. Blocking; nothing of it runs."""
    with tempfile.TemporaryDirectory() as folder:
        for name, path in paths.items():
            Path(folder, name).symlink_to(path.resolve())
        try:
            check_wheels(paths)
            check_outputs(read_spec(Path(folder, pipeline), settings, trust=False), outputs)
        except ThalwegError as error:
            raise ThalwegError(str(error).replace(f"{folder}/", "")) from None


def _name(name: str) -> str:
    """A file's, in the one folder that files of a release lie in."""
    if not name or name != PurePath(name).name or name in (".", "..") or "\0" in name or len(name) > 255:
        raise Refused(400, "bad-request", "That cannot be the name of a file.")
    return name


def _text(asked: Mapping[str, Any], name: str) -> str:
    found = asked.get(name)
    if not isinstance(found, str):
        raise Refused(400, "bad-request", f"`{name}` is missing.")
    return found


def _number(asked: Mapping[str, Any], name: str, default: float, least: float, most: float) -> float:
    found = asked.get(name, default)
    if isinstance(found, bool) or not isinstance(found, int | float) or not least <= found <= most:
        raise Refused(400, "bad-request", f"`{name}` is a number, {least:g} to {most:g}.")
    return float(found)


def _texts(asked: Mapping[str, Any], name: str) -> list[str]:
    found = asked.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise Refused(400, "bad-request", f"`{name}` is a list of texts.")
    return found


def _table(asked: Mapping[str, Any], name: str) -> dict[str, str]:
    found = asked.get(name, {})
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise Refused(400, "bad-request", f"`{name}` maps texts to texts.")
    return found


def _json(value: Any) -> web.Response:
    return web.Response(text=as_json(value), content_type="application/json")
