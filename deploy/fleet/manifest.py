"""Manifests: what a node is to run, signed by the hub.

    {"generation": 7, "pipeline": "uav.yaml", "settings": {"source": "…"}, "gate": {…},
     "files": [{"path": "uav.yaml", "sha256": "…", "size": 812}, …]}

The signature covers the bytes as sent, so no canonical form of JSON is needed. Generations rise, over all nodes of a
hub. No path in a manifest leads out of its own folder.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from thalweg.deploy.fleet.certificates import check_signature, sign
from thalweg.deploy.fleet.errors import FleetError
from thalweg.pipeline.decoding import decoder
from thalweg.pipeline.fleet.gate import Gate

LARGEST = 1_000_000
MOST_FILES = 1000
MOST_BYTES = 20 << 30
_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A file of a release: where it lies in it, its hash and size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """See above. `pipeline`: which of the files is run, with these `settings`."""

    generation: int
    pipeline: str
    files: tuple[Artefact, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    gate: Gate = field(default_factory=Gate)

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        gate = self.gate
        return {
            "generation": self.generation,
            "pipeline": self.pipeline,
            "settings": dict(self.settings),
            "files": [{"path": f.path, "sha256": f.sha256, "size": f.size} for f in self.files],
            "gate": {
                "open_s": gate.open_ns / _S,
                "watch_s": gate.watch_ns / _S,
                "silence_s": gate.silence_ns / _S,
                "missed": gate.missed,
                "outputs": list(gate.outputs),
            },
        }


def sealed(manifest: Manifest, key: bytes) -> bytes:
    """A manifest with its signature."""
    body = json.dumps(manifest.plain()).encode()
    return json.dumps(
        {"manifest": base64.b64encode(body).decode(), "signature": base64.b64encode(sign(key, body)).decode()}
    ).encode()


@decoder(FleetError, "a manifest")
def opened(data: bytes, public: bytes) -> Manifest:
    """What `sealed` made. Raises FleetError where it is not signed by the owner of `public`, or is no manifest."""
    if len(data) > LARGEST:
        raise FleetError(f"a manifest of {len(data)} bytes: at most {LARGEST} are read")
    envelope = json.loads(data)
    body, signature = (base64.b64decode(envelope[name], validate=True) for name in ("manifest", "signature"))
    if not check_signature(public, signature, body):
        raise FleetError("its signature is not that of the hub this node was enrolled at")
    return _read(json.loads(body))


def _read(plain: Any) -> Manifest:
    files = tuple(Artefact(path=str(f["path"]), sha256=str(f["sha256"]), size=int(f["size"])) for f in plain["files"])
    for file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in file.path:
            raise FleetError(f"file {file.path!r} leads out of its release")
        if len(file.sha256) != 64 or set(file.sha256) - set("0123456789abcdef") or file.size < 0:
            raise FleetError(f"file {file.path!r} has no SHA-256, or no size")
    if len(files) > MOST_FILES or sum(file.size for file in files) > MOST_BYTES:
        raise FleetError(f"{len(files)} files of {sum(file.size for file in files)} bytes are too much for a release")
    pipeline, generation = str(plain["pipeline"]), int(plain["generation"])
    if pipeline not in {file.path for file in files} or generation < 1:
        raise FleetError(f"its pipeline {pipeline!r} is none of its files, or its generation {generation} is below 1")
    gate = plain.get("gate", {})
    defaults = Gate()
    return Manifest(
        generation=generation,
        pipeline=pipeline,
        files=files,
        settings={str(name): str(value) for name, value in plain.get("settings", {}).items()},
        gate=Gate(
            open_ns=_ns(gate.get("open_s"), defaults.open_ns),
            watch_ns=_ns(gate.get("watch_s"), defaults.watch_ns),
            silence_ns=_ns(gate.get("silence_s"), defaults.silence_ns),
            missed=float(gate.get("missed", defaults.missed)),
            outputs=tuple(map(str, gate.get("outputs", ()))),
        ),
    )


def _ns(seconds: Any, default: int) -> int:
    return default if seconds is None else int(float(seconds) * _S)
