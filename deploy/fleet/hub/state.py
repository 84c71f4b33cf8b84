"""The folder of a hub: its authority, its nodes, what they are to run.

    authority.pem, authority.key    signs certificates of nodes
    signing.key                     signs manifests
    nodes/NAME/node.json            who it is, since when, its certificates' numbers, what it runs, what it last said
    nodes/NAME/records/             what it has sent
    clock                           what time it is, to the hour (`clock.py`)
    codes.json                      enrolment codes that are still good, by their SHA-256
    manifests/GENERATION.json       every manifest there ever was, signed
    artefacts/SHA256                files of releases

One process at a time: the one that holds `lock`. Every change is on the disk before it is answered.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import threading
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.certificates import COMMAND_SALT
from thalweg.deploy.fleet.codes import hashed, make_code
from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.hub.clock import SteadyClock
from thalweg.deploy.fleet.hub.records import NodeRecords
from thalweg.deploy.fleet.hub.told import bounded, number_in, place_in
from thalweg.deploy.fleet.manifest import Artefact, Manifest, opened, sealed
from thalweg.models.store.home import user_folder
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.actions import Command
from thalweg.pipeline.fleet.gate import Gate
from thalweg.pipeline.fleet.moving.places import EDGE
from thalweg.pipeline.suggestion import nearest
from thalweg.stages.io.private import create_private
from thalweg.transports.fleet.durable import replace_file, sync_folder

CODE_HOURS = 24.0
MOST_FORGOTTEN = 100_000
"""Generations that a restored hub may be behind: a node that claims more is not believed."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
LENDING_S = 60.0
"""How long a lender is named to nodes after it has last said that it lends."""
LOOKED_S = 20.0
"""How long a node sends its log after a visitor has looked at it."""
TRAIL = 500
"""Places of a node that are remembered while the hub runs."""
_KEPT_SERIALS = 4
_KEPT_INSTANCES = 50


def default_folder() -> Path:
    """Where a hub of this user lives unless told otherwise."""
    return user_folder("XDG_STATE_HOME", ".local/state") / "thalweg" / "hub"


class HubState:
    """See above. Made where it is missing. Raises FleetError where another process has it, OSError on a bad disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in (folder, folder / "nodes", folder / "manifests", folder / "artefacts"):
            part.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise FleetError(f"a hub runs in {folder} already") from None
        if not (folder / "authority.pem").exists():
            self._make()
        self.clock = SteadyClock(folder)
        self.authority = (folder / "authority.pem").read_bytes()
        self._key = (folder / "authority.key").read_bytes()
        self._signing = (folder / "signing.key").read_bytes()
        self.nodes: dict[str, dict[str, Any]] = {
            path.parent.name: json.loads(path.read_bytes()) for path in sorted(folder.glob("nodes/*/node.json"))
        }
        self.trails: defaultdict[str, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=TRAIL))
        self._records: dict[str, NodeRecords] = {}
        self._lending: dict[str, dict[str, Any]] = {}
        self._manifests: dict[int, Manifest] = {}
        self._looked: dict[str, float] = {}
        self._reading = threading.Lock()

    @property
    def public(self) -> bytes:
        """What manifests are checked with."""
        return certs.public_of(self._signing)

    def hub_certificate(self) -> tuple[bytes, bytes]:
        """A certificate for this hub to answer with, and its key."""
        key = certs.make_key()
        return self._issue(certs.make_request(key), certs.HUB_NAME, "hub")[0], key

    def new_code(self, name: str, lends: str = "") -> str:
        """A code by which a device becomes the node `name`, within a day; one that may lend workers to others, as the
        place `lends`. Raises FleetError.
        """
        if lends and (not _NAME.fullmatch(lends) or lends == EDGE):
            raise FleetError(f"{lends!r} cannot name a place that workers are lent at, such as fog or cloud")
        if not _NAME.fullmatch(name):
            raise FleetError(f"{name!r} cannot name a node: use small letters, digits, _ and -")
        code, secret = make_code(certs.fingerprint(self.authority))
        now_s = self.clock.now_s()
        codes = {key: known for key, known in self._codes().items() if known["until"] > now_s}
        codes[hashed(secret)] = {"name": name, "until": now_s + CODE_HOURS * 3600, "used": "", "lends": lends}
        self._write("codes.json", codes)
        return code

    def enrol(self, secret: bytes, working: bytes, renewal: bytes) -> dict[str, Any]:
        """Certificates for a device that knows a code; again for the same device, whose answer was lost.

        Certificates of a previous device of that name become invalid, and so do all other codes of it. `boot`: the
        number to count on from, so that records of the new device are not taken for those of the old one. Raises
        FleetError, OSError.
        """
        codes = self._codes()
        known = codes.get(hashed(secret))
        asked = hashed(working + renewal)
        if known is None or known["until"] < self.clock.now_s() or known["used"] not in ("", asked):
            raise FleetError("that code is not good (any more): `thalweg hub enrol NAME` makes another one")
        name = known["name"]
        boot = self.records(name).newest_boot if name in self.nodes else 0
        requests = {certs.WORKING: working, certs.RENEWAL: renewal}
        certificates = {kind: self._issue(request, name, kind) for kind, request in requests.items()}
        known["used"] = asked
        self._write("codes.json", {key: code for key, code in codes.items() if code is known or code["name"] != name})
        (self.folder / "nodes" / name).mkdir(exist_ok=True, mode=0o700)
        before = self.nodes.get(name, {})
        self.nodes[name] = {
            "enrolled": self.clock.now_s(),
            "revoked": False,
            "desired": before.get("desired", 0),
            "lends": known.get("lends", ""),
            "serials": {kind: [str(serial)] for kind, (_, serial) in certificates.items()},
            "instances": before.get("instances", []),
            "report": {},
        }
        self.save(name)
        issued = {kind: pem for kind, (pem, _) in certificates.items()}
        return {"name": name, "boot": boot, **issued, "signing": self.public}

    def renew(self, name: str, request: bytes) -> bytes:
        """Another working certificate; the last few stay good, for an answer may be lost. Raises FleetError."""
        certificate, serial = self._issue(request, name, certs.WORKING)
        serials = self.nodes[name]["serials"]
        serials[certs.WORKING] = [*serials[certs.WORKING], str(serial)][-_KEPT_SERIALS:]
        self.save(name)
        return certificate

    def lend(self, name: str, request: bytes) -> bytes:
        """A certificate for a node that lends workers to answer with. Raises FleetError where it may not."""
        if not self.nodes[name].get("lends"):
            raise FleetError(f"{name} was not enrolled to lend: `thalweg hub enrol {name} --lends PLACE` makes a code")
        return self._issue(request, name, certs.LENDER)[0]

    def lending(self, name: str, host: str, port: int, free: int, seen_s: float) -> None:
        """A lender has said where it is. Kept in memory: it says so again and again."""
        self._lending[name] = {"host": host, "port": port, "free": free, "seen": seen_s}

    def said_to_lend(self, name: str) -> dict[str, Any]:
        """What a lender has said last: where it is, how many workers are free, when; nothing of any other node."""
        return self._lending.get(name, {})

    def lenders(self, now_s: float) -> list[dict[str, Any]]:
        """Where workers are lent now: place, name, host, port; and who is to lend no more, with `revoked`."""
        revoked = [
            {"place": node["lends"], "name": name, "host": "", "port": 0, "revoked": True}
            for name, node in sorted(self.nodes.items())
            if node["revoked"] and node.get("lends")
        ]
        return revoked + [
            {"place": self.nodes[name]["lends"], "name": name, "host": said["host"], "port": said["port"]}
            for name, said in sorted(self._lending.items())
            if now_s - said["seen"] < LENDING_S and not self.nodes[name]["revoked"] and self.nodes[name].get("lends")
        ]

    def admitted(self) -> dict[str, list[str]]:
        """Node that may borrow → the serial numbers of its working certificates."""
        return {name: node["serials"][certs.WORKING] for name, node in self.nodes.items() if not node["revoked"]}

    def command(self, name: str, action: str, settings: Mapping[str, float], within_s: float) -> tuple[str, bytes]:
        """A command to a node's vehicle, to be done within so many seconds, signed; its id. Raises ThalwegError."""
        node, now_s = self._known(name), self.clock.now_s()
        instance = node["report"].get("instance") if isinstance(node.get("report"), dict) else None
        if not instance:
            raise FleetError(f"{name} has not reported since the hub was started: it cannot be addressed")
        plain = {
            "id": secrets.token_hex(16),
            "node": name,
            "instance": instance,
            "action": action,
            "settings": dict(settings),
            "issued_s": now_s,
            "expires_s": now_s + within_s,
        }
        command = Command.read(plain)
        body = json.dumps(command.plain()).encode()
        signature = certs.sign(self._signing, COMMAND_SALT + body)
        return command.id, json.dumps({"command": body.hex(), "signature": signature.hex()}).encode()

    def admits(self, name: str, kind: str, serial: int) -> str:
        """Why the holder of this certificate is refused; empty where it is admitted."""
        node = self.nodes.get(name)
        if node is None:
            return "this hub knows no such node: enrol it again"
        if node["revoked"]:
            return "this node was revoked"
        if str(serial) not in node["serials"].get(kind, ()):
            return "this certificate is not good any more: another device was enrolled under this name"
        return ""

    def revoke(self, name: str) -> None:
        """Let a node in no more, nor by a code that was made before. Raises FleetError where there is none."""
        self._known(name)["revoked"] = True
        self.save(name)
        self._write("codes.json", {key: known for key, known in self._codes().items() if known["name"] != name})

    def heard(self, name: str, report: Mapping[str, Any], seen_s: float) -> None:
        """A node has reported. What it says is shown, not believed; it is kept in memory until the next change."""
        node = self._known(name)
        instance, known = str(report.get("instance", ""))[:64], node["instances"]
        if instance not in known:
            node["instances"] = [*known, instance][-_KEPT_INSTANCES:]
            self.save(name)
        elif instance != known[-1]:
            node["cloned"] = seen_s  # one that was followed by another is at work again: there are two
        node["report"] = {**bounded(dict(report)), "seen": seen_s}
        place, trail = place_in(report.get("vehicle")), self.trails[name]
        if place is not None and (not trail or trail[-1] != place):
            trail.append(place)

    def records(self, name: str) -> NodeRecords:
        """What a node has sent; read from the disk the first time, which takes a while. From any thread."""
        with self._reading:
            if name not in self._records:
                self._records[name] = NodeRecords(self.folder / "nodes" / name / "records", self.clock.now_s)
            return self._records[name]

    def remove_records(self, days: float) -> int:
        """Remove what nodes have sent more than so many days ago, by segments; returns how many. Blocking, from any
        thread. Nodes whose records cannot be read are left as they are.
        """
        before_s, removed = self.clock.now_s() - days * 86_400, 0
        for name in list(self.nodes):
            with suppress(ThalwegError, OSError):
                removed += self.records(name).remove_before(before_s)
        return removed

    def forget_records(self, name: str) -> None:
        """Read them from the disk the next time: a write has failed, and what is in memory may not be true."""
        with self._reading:
            records = self._records.pop(name, None)
        if records is not None:
            with suppress(OSError):
                records.close()

    def keep(self, files: Mapping[str, Path]) -> list[Artefact]:
        """Take files among the artefacts. Blocking; one at a time, in any thread. Raises FleetError."""
        return [self._keep(path, source) for path, source in files.items()]

    def roll_out(
        self,
        pipeline: str,
        files: Sequence[Artefact],
        settings: Mapping[str, str],
        gate: Gate,
        nodes: Sequence[str],
    ) -> tuple[int, list[str]]:
        """Have nodes, all of them where none is named, run this, of files that `keep` has taken; returns the generation
        and who. Raises FleetError.
        """
        chosen = [name for name in self.nodes if not self.nodes[name]["revoked"]] if not nodes else list(nodes)
        for name in chosen:
            self._known(name)
        manifest = Manifest(
            generation=self.newest() + 1, pipeline=pipeline, files=tuple(files), settings=settings, gate=gate
        )
        return self._want(manifest, chosen)

    def roll_back(self, generation: int, nodes: Sequence[str]) -> tuple[int, list[str]]:
        """Have nodes run again what an earlier generation was, as a new one. Raises FleetError."""
        path = self.folder / "manifests" / f"{generation}.json"
        if not path.exists():
            raise FleetError(f"there is no generation {generation}; the newest is {self.newest()}")
        chosen = list(nodes) or [name for name, node in self.nodes.items() if node["desired"] > generation]
        for name in chosen:
            self._known(name)
        old = opened(path.read_bytes(), self.public)
        again = Manifest(
            generation=self.newest() + 1,
            pipeline=old.pipeline,
            files=old.files,
            settings=old.settings,
            gate=old.gate,
        )
        return self._want(again, chosen)

    def manifest(self, name: str) -> bytes | None:
        """What a node is to run, signed."""
        generation = self.nodes[name]["desired"]
        return (self.folder / "manifests" / f"{generation}.json").read_bytes() if generation else None

    def manifests(self, most: int) -> list[Manifest]:
        """The newest, newest first. Blocking the first time: they do not change."""
        paths = {int(path.stem): path for path in (self.folder / "manifests").glob("*.json")}
        newest = sorted(paths, reverse=True)[:most]
        for number in newest:
            if number not in self._manifests:
                self._manifests[number] = opened(paths[number].read_bytes(), self.public)
        return [self._manifests[number] for number in newest]

    def looked_at(self, name: str, now_s: float) -> None:
        """A visitor looks at this node: it is to send its log along."""
        self._looked[name] = now_s

    def is_looked_at(self, name: str, now_s: float) -> bool:
        """Whether a visitor does, or did just now."""
        return now_s - self._looked.get(name, -LOOKED_S) < LOOKED_S

    def newest(self) -> int:
        """The highest generation there is, or that a node has ever seen; 0 where there is none.

        A hub that was restored from an old copy has to go beyond what it no longer knows of: nodes take nothing older.
        """
        ours = max((int(path.stem) for path in (self.folder / "manifests").glob("*.json")), default=0)
        theirs = [number_in(node.get("report"), "rollout", "highest") for node in self.nodes.values()]
        return max([ours, *(seen for seen in theirs if seen < ours + MOST_FORGOTTEN)])

    def save(self, name: str) -> None:
        """Remember what is known of a node."""
        kept = {key: value for key, value in self.nodes[name].items() if key != "report"}
        self._write(f"nodes/{name}/node.json", kept)

    def close(self) -> None:
        """Let go of the folder. Idempotent."""
        for records in self._records.values():
            records.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _issue(self, request: bytes, name: str, kind: str) -> tuple[bytes, int]:
        return certs.issue(self.authority, self._key, request, name, kind, self.clock.now_s())

    def _want(self, manifest: Manifest, nodes: list[str]) -> tuple[int, list[str]]:
        replace_file(self.folder / "manifests" / f"{manifest.generation}.json", sealed(manifest, self._signing))
        for name in nodes:
            self.nodes[name]["desired"] = manifest.generation
            self.save(name)
        return manifest.generation, nodes

    def _keep(self, path: str, source: Path) -> Artefact:
        """A file among the artefacts, by its hash."""
        digest, size = hashlib.sha256(), 0
        part = self.folder / "artefacts" / ".part"
        try:
            with source.open("rb") as reading, create_private(part) as writing:
                while chunk := reading.read(1 << 20):
                    digest.update(chunk)
                    writing.write(chunk)
                    size += len(chunk)
                writing.flush()
                os.fsync(writing.fileno())
        except OSError as error:
            raise FleetError(f"cannot take {source}: {error.strerror}") from None
        part.replace(self.folder / "artefacts" / digest.hexdigest())
        sync_folder(part.parent)
        return Artefact(path=path, sha256=digest.hexdigest(), size=size)

    def _known(self, name: str) -> dict[str, Any]:
        if name not in self.nodes:
            raise FleetError(f"there is no node {name!r}{nearest(name, self.nodes)}")
        return self.nodes[name]

    def _codes(self) -> dict[str, Any]:
        path = self.folder / "codes.json"
        found: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
        return found

    def _make(self) -> None:
        authority, key = certs.make_authority("Thalweg hub")
        replace_file(self.folder / "signing.key", certs.make_signing_key())
        replace_file(self.folder / "authority.key", key)
        replace_file(self.folder / "authority.pem", authority)  # the last: where it is, the others are

    def _write(self, name: str, content: Any) -> None:
        replace_file(self.folder / name, json.dumps(content).encode())
