"""Releases on a node's disk: fetched by their hashes, laid out, pointed at.

    rollout.json         where the rollout stands (`pipeline.fleet.rollout`)
    artefacts/SHA256     files that are whole; SHA256.part: the beginning of one
    releases/7/          what generation 7 consists of: manifest.json as it was signed, files under `files/`, what
                         its wheels hold under `packages/`
    current              a link to the committed release

A release appears under its name when everything in it is on the disk. What no release needs any more is removed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath

from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.manifest import LARGEST, Artefact, Manifest, opened
from thalweg.deploy.fleet.node.asking import HubClient
from thalweg.deploy.fleet.wheels import is_wheel, unpack
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.rollout import Record
from thalweg.transports.fleet.durable import replace_file, replace_link, sync_folder

_CHUNK = 1 << 18
PACKAGES = "packages"
SPARE_BYTES = 16 << 20
"""Bytes that downloads must leave free on the disk: the agent writes, too."""


class ReleaseRefused(FleetError):
    """A release that this node cannot run, so that a retry is useless: wrong hash, wrong signature, no room, a wheel
    for another machine.
    """


class Releases:
    """See above. `public`: what manifests are checked with."""

    def __init__(self, folder: Path, public: bytes) -> None:
        self.folder = folder
        self._public = public
        for part in ("artefacts", "releases"):
            (folder / part).mkdir(parents=True, exist_ok=True, mode=0o700)

    def load(self) -> Record:
        """Where the rollout stands. A record that cannot be read is begun anew from `current`."""
        try:
            return Record.from_plain(json.loads((self.folder / "rollout.json").read_bytes()))
        except FileNotFoundError:
            return Record()
        except (OSError, ValueError, ThalwegError):
            current = self._current()
            return Record(current=current, highest=max([current, *self._there()]))

    def save(self, record: Record) -> None:
        """Before what it demands is done. Raises OSError."""
        replace_file(self.folder / "rollout.json", json.dumps(record.plain()).encode())

    def path(self, generation: int) -> Path:
        """The folder of a release."""
        return self.folder / "releases" / str(generation)

    def manifest(self, generation: int) -> Manifest:
        """Of a release that is here. Raises FleetError."""
        try:
            return opened((self.path(generation) / "manifest.json").read_bytes(), self._public)
        except OSError as error:
            raise FleetError(f"release {generation} is not here: {error.strerror}") from None

    def ask(self, client: HubClient) -> tuple[Manifest, bytes]:
        """What the hub wants, checked. Raises FleetError."""
        sealed = client.get("/v1/manifest").read(LARGEST + 1)
        return opened(sealed, self._public), sealed

    def fetch(self, client: HubClient, manifest: Manifest, sealed: bytes) -> None:
        """Get everything and lay it out, going on where an attempt before was cut short.

        Raises ReleaseRefused; HubAway and HubRefused where it may work another time.
        """
        wanted = sum(file.size for file in manifest.files if not self._whole(file).exists())
        free = shutil.disk_usage(self.folder).free
        if wanted > free - SPARE_BYTES:
            raise ReleaseRefused(f"it needs {wanted / 1e6:.1f} MB, and {free / 1e6:.1f} MB of the disk are free")
        try:
            for file in manifest.files:
                if not self._whole(file).exists():
                    self._fetch(client, file)
            self._lay_out(manifest, sealed)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ReleaseRefused(f"the disk is full: {error.strerror}") from None

    def point(self, generation: int) -> None:
        """Have `current` lead to a release, or nowhere for 0."""
        link = self.folder / "current"
        if generation:
            replace_link(link, f"releases/{generation}")
        else:
            link.unlink(missing_ok=True)
            sync_folder(self.folder)

    def tidy(self, record: Record) -> None:
        """Remove releases and artefacts that the record does not need."""
        keep = {record.current, record.previous, record.candidate}
        for generation in self._there():
            if generation not in keep:
                shutil.rmtree(self.path(generation), ignore_errors=True)
        for part in (self.folder / "releases").glob(".*.part"):
            shutil.rmtree(part, ignore_errors=True)
        needed: set[str] = set()
        for generation in keep & set(self._there()):
            with suppress(ThalwegError):
                needed |= {file.sha256 for file in self.manifest(generation).files}
        for path in (self.folder / "artefacts").iterdir():
            if path.name.partition(".")[0] not in needed:
                path.unlink(missing_ok=True)

    def _whole(self, file: Artefact) -> Path:
        return self.folder / "artefacts" / file.sha256

    def _fetch(self, client: HubClient, file: Artefact) -> None:
        """One file, checked against its hash; a beginning that is wrong is found out at the end, and begun anew."""
        part = self._whole(file).with_name(f"{file.sha256}.part")
        digest = hashlib.sha256()
        held = 0
        if part.exists() and part.stat().st_size < file.size:
            with part.open("rb") as reading:
                while chunk := reading.read(_CHUNK):
                    digest.update(chunk)
                    held += len(chunk)
        with part.open("ab" if held else "wb") as writing:
            answer = client.get(f"/v1/artefacts/{file.sha256}", held)
            if held and answer.status != 206:
                raise FleetError("the hub does not send the rest of a file")
            while held <= file.size and (chunk := answer.read(_CHUNK)):
                writing.write(chunk)
                digest.update(chunk)
                held += len(chunk)
            writing.flush()
            os.fsync(writing.fileno())
        if held < file.size:
            raise FleetError(f"{file.path} broke off at byte {held} of {file.size}")
        if held != file.size or digest.hexdigest() != file.sha256:
            part.unlink()
            client.close()
            raise ReleaseRefused(f"{file.path} is not what the manifest says: its SHA-256 or size is another")
        part.replace(self._whole(file))
        sync_folder(part.parent)

    def _lay_out(self, manifest: Manifest, sealed: bytes) -> None:
        """The folder of a release, whole."""
        done = self.path(manifest.generation)
        if (done / "manifest.json").exists():
            return
        part = done.with_name(f".{manifest.generation}.part")
        shutil.rmtree(part, ignore_errors=True)
        for file in manifest.files:
            place = part / "files" / file.path
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.link(self._whole(file), place)
            if is_wheel(file.path):
                self._unpack(file, part)
        for folder, _, _ in os.walk(part):
            sync_folder(Path(folder))
        replace_file(part / "manifest.json", sealed)
        part.replace(done)
        sync_folder(done.parent)

    def _unpack(self, file: Artefact, release: Path) -> None:
        packages = release / PACKAGES
        packages.mkdir(exist_ok=True, mode=0o700)
        try:
            room = shutil.disk_usage(self.folder).free - SPARE_BYTES
            unpack(self._whole(file), PurePosixPath(file.path).name, packages, room)
        except FleetError as error:
            raise ReleaseRefused(str(error)) from None

    def _there(self) -> list[int]:
        return [int(path.name) for path in (self.folder / "releases").iterdir() if path.name.isdecimal()]

    def _current(self) -> int:
        try:
            return int(os.readlink(self.folder / "current").rpartition("/")[2])
        except (OSError, ValueError):
            return 0
