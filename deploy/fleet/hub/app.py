"""What nodes ask a hub: HTTPS behind the front door, each with its certificate, MessagePack both ways.

    POST /v1/authority   the authority's certificate; no client certificate is needed
    POST /v1/enrol       secret, two signing requests → two certificates; the secret is what lets it in
    POST /v1/renew       signing request → a working certificate; the only thing a renewal certificate may ask
    POST /v1/report      how a node is → what time it is, which generation it should run, what was received,
                         where workers are lent
    POST /v1/lend        signing request → a certificate to lend with; of nodes that may
    POST /v1/lending     where a lender is → what time it is, and the nodes that may borrow
    POST /v1/records     frames → what was received, once it is on the disk
    POST /v1/commands    waits some seconds for a command to its vehicle → that, or nothing
    GET  /v1/manifest    what it should run, signed
    GET  /v1/artefacts/SHA256   a file of a release; of its own release only. Takes Range

A refusal is 403 with the reason as JSON. Disk trouble is 507: nothing was acknowledged, and the node asks again.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import defaultdict
from typing import Any

import msgpack
from aiohttp import web

from thalweg.deploy.door.doorkeeper import DoorLimits
from thalweg.deploy.door.front_door import DoorSettings, FrontDoor
from thalweg.deploy.door.refused import Refused
from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.hub.commanding import Commanding
from thalweg.deploy.fleet.hub.records import MOST_STREAMS
from thalweg.deploy.fleet.hub.state import HubState
from thalweg.deploy.fleet.hub.told import number_in
from thalweg.deploy.fleet.manifest import opened
from thalweg.stages.io.private import create_private
from thalweg.transports.fleet.segment import LARGEST_PAYLOAD
from thalweg.transports.packing import unpack

log = logging.getLogger(__name__)

LARGEST_BODY = LARGEST_PAYLOAD + (1 << 20)
LARGEST_REPORT = 256 << 10
COMMAND_S = 6.0
"""How long a node waits for a command at a time; it gives up after ten seconds without an answer."""
LIMITS = DoorLimits(connections=2000, requests_per_s=400.0, total_per_s=5000.0)


class HubApp:
    """The application and its door. `context`: what it listens with."""

    def __init__(self, state: HubState) -> None:
        self.state = state
        settings = DoorSettings(limits=LIMITS, host_names=(certs.HUB_NAME,), known_body_bytes=LARGEST_BODY)
        self.door = FrontDoor(settings, knows=self._knows)
        self.application = self.door.application()
        self.application.add_routes(
            [
                web.post("/v1/authority", self._authority),
                web.post("/v1/enrol", self._enrol),
                web.post("/v1/renew", self._renew),
                web.post("/v1/report", self._report),
                web.post("/v1/lend", self._lend),
                web.post("/v1/commands", self._command),
                web.post("/v1/lending", self._lending),
                web.post("/v1/records", self._records),
                web.get("/v1/manifest", self._manifest),
                web.get("/v1/artefacts/{sha}", self._artefact),
            ]
        )
        self.commanding = Commanding()
        self._writing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def context(self) -> ssl.SSLContext:
        """TLS with a fresh certificate of the hub's; certificates of nodes are asked for, and checked where given: here
        not by this machine's clock, but with each request by the hub's.
        """
        certificate, key = self.state.hub_certificate()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.state.authority.decode())
        context.verify_flags |= certs.NO_CHECK_TIME
        path = self.state.folder / ".hub.pem"
        try:
            with create_private(path) as file:
                file.write(certificate + key)
            context.load_cert_chain(path)
        finally:
            path.unlink()
        return context

    def _who(self, request: web.Request, kinds: tuple[str, ...] = (certs.WORKING,)) -> str:
        """The node that asks. Raises Refused where it is none that may ask this."""
        transport = request.transport
        shown = transport.get_extra_info("peercert") if transport is not None else None
        if not shown:
            raise Refused(403, "no-certificate", "Only nodes may ask that, with their certificate.")
        name, kind = certs.names_of(shown["subject"])
        begin_s, end_s = (ssl.cert_time_to_seconds(shown[each]) for each in ("notBefore", "notAfter"))
        wrong = self.state.admits(name, kind, int(shown["serialNumber"], 16))
        if not wrong and not begin_s <= self.state.clock.now_s() <= end_s:
            wrong = "this certificate has ended, or is not valid yet"
        if not wrong and kind not in kinds:
            wrong = f"a {kind} certificate is not good for that"
        if wrong:
            raise Refused(403, "not-admitted", wrong)
        return name

    def _knows(self, request: web.Request) -> bool:
        """Whether a node asks; a stranger has nothing to say that is long."""
        try:
            self._who(request, (certs.WORKING, certs.RENEWAL))
        except Refused:
            return False
        return True

    async def _authority(self, request: web.Request) -> web.Response:
        return _packed({"authority": self.state.authority})

    async def _enrol(self, request: web.Request) -> web.Response:
        asked = await _asked(request)
        try:
            given = self.state.enrol(_bytes(asked, "secret"), _bytes(asked, "working"), _bytes(asked, "renewal"))
        except FleetError as error:
            raise Refused(403, "enrolment", str(error)) from None
        log.info("node %s was enrolled from %s", given["name"], request.remote)
        return _packed(given)

    async def _renew(self, request: web.Request) -> web.Response:
        name = self._who(request, (certs.WORKING, certs.RENEWAL))
        asked = await _asked(request)
        try:
            return _packed({"working": self.state.renew(name, _bytes(asked, "request"))})
        except FleetError as error:
            raise Refused(400, "renewal", str(error)) from None

    async def _report(self, request: web.Request) -> web.Response:
        name = self._who(request)
        report = await _asked(request)
        streams = _streams(report.pop("streams", ()))
        async with self._writing[name]:
            marks = await self._on_disk(name, lambda: self.state.records(name).floors(streams))
        now_s = self.state.clock.now_s()
        self.state.heard(name, report, now_s)
        desired, lenders = self.state.nodes[name]["desired"], self.state.lenders(now_s)
        looked = self.state.is_looked_at(name, now_s)
        return _packed({"time": now_s, "desired": desired, "marks": marks, "lenders": lenders, "log": looked})

    async def _command(self, request: web.Request) -> web.Response:
        name = self._who(request)
        return _packed({"command": await self.commanding.next(name, COMMAND_S)})

    async def _lend(self, request: web.Request) -> web.Response:
        name = self._who(request)
        asked = await _asked(request)
        try:
            return _packed({"lender": self.state.lend(name, _bytes(asked, "request"))})
        except FleetError as error:
            raise Refused(403, "lending", str(error)) from None

    async def _lending(self, request: web.Request) -> web.Response:
        name = self._who(request)
        said = await _asked(request)
        host, port = str(said.get("host") or request.remote or "")[:255], number_in(said, "port")
        if not self.state.nodes[name].get("lends") or not host or not 0 < port < 65536:
            raise Refused(403, "lending", f"{name} was not enrolled to lend, or does not say where it listens.")
        self.state.lending(name, host, port, number_in(said, "free"), self.state.clock.now_s())
        return _packed({"time": self.state.clock.now_s(), "admitted": self.state.admitted()})

    async def _records(self, request: web.Request) -> web.Response:
        name = self._who(request)
        body = await request.read()
        async with self._writing[name]:
            marks = await self._on_disk(name, lambda: self.state.records(name).receive(body))
        return _packed({"marks": marks})

    async def _on_disk(self, name: str, step: Any) -> Any:
        """Run a step that writes records, in a thread. Raises Refused where the disk does not take it."""
        try:
            return await asyncio.to_thread(step)
        except OSError as error:
            self.state.forget_records(name)
            self.door.say("disk", f"records of {name} cannot be stored: {error.strerror}")
            raise Refused(507, "disk", "The hub cannot store anything now.") from None

    async def _manifest(self, request: web.Request) -> web.Response:
        found = self.state.manifest(self._who(request))
        if found is None:
            raise Refused(404, "nothing", "There is nothing for this node to run.")
        return web.Response(body=found)

    async def _artefact(self, request: web.Request) -> web.StreamResponse:
        name = self._who(request)
        sha = request.match_info["sha"]
        sealed = self.state.manifest(name)
        mine = opened(sealed, self.state.public).files if sealed is not None else ()
        if sha not in {file.sha256 for file in mine}:
            raise Refused(404, "artefact", "No release of this node has such a file.")
        return web.FileResponse(self.state.folder / "artefacts" / sha)


async def _asked(request: web.Request) -> dict[str, Any]:
    """What was sent. Raises Refused where it is no map."""
    body = await request.read()
    if len(body) > LARGEST_REPORT:
        raise Refused(413, "too-large", f"At most {LARGEST_REPORT} bytes are read here.")
    try:
        found = unpack(body)
    except Exception:  # msgpack raises a dozen kinds on garbage
        found = None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise Refused(400, "bad-request", "A MessagePack map is expected.")
    return found


def _streams(told: Any) -> list[tuple[int, str, int]]:
    """Boot, stream and lowest number of what a node still has; what is none of it is left out."""
    found = []
    for each in told[:MOST_STREAMS] if isinstance(told, tuple) else ():
        match each:
            case (int() as boot, str() as stream, int() as floor) if 0 <= boot < 1 << 32 and 0 <= floor < 1 << 64:
                found.append((boot, stream, floor))
    return found


def _bytes(asked: dict[str, Any], name: str) -> bytes:
    found = asked.get(name)
    if not isinstance(found, bytes):
        raise Refused(400, "bad-request", f"`{name}` is missing.")
    return found


def _packed(answer: dict[str, Any]) -> web.Response:
    return web.Response(body=msgpack.packb(answer), content_type="application/msgpack")
