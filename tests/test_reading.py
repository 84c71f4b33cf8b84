"""One reader for small files that somebody names: regular, bounded, without waiting (`models.store.bounded`)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
READS = {"read_text", "read_bytes"}
OURS = {
    "deploy/cluster/host.py": "/proc, of this machine",
    "deploy/commands/reference/generate.py": "the repository's own",
    "deploy/commands/protobuf.py": "the repository's own",
    "deploy/fleet/hub/app.py": "written by us, a moment before",
    "deploy/fleet/hub/export.py": "written by us, in a folder that is the hub's alone",
    "deploy/fleet/hub/records.py": "written by us, in a folder that is the hub's alone",
    "deploy/fleet/hub/state.py": "written by us, in a folder that is the hub's alone",
    "deploy/fleet/node/identity.py": "written by us, in a folder that is the node's alone",
    "deploy/fleet/node/releases.py": "written by us, in a folder that is the node's alone",
    "deploy/fleet/node/vehicle.py": "written by us, in a folder that is the node's alone",
    "deploy/ops/keeping/deployments.py": "written by us, in a folder that is the user's alone",
    "deploy/ops/keeping/keeper.py": "written by us, in a folder that is the user's alone",
    "deploy/ops/keeping/up.py": "written by us, in a folder that is the user's alone",
    "deploy/ops/observing/stats.py": "/proc, of this process",
    "deploy/server/app.py": "files of the package",
    "deploy/server/load.py": "/proc, of our processes",
    "models/store/fetching/fetch.py": "written by us, in the cache",
    "deploy/fleet/hub/page.py": "files of the package",
    "models/store/fingerprint.py": "/proc",
    "models/store/fitting.py": "/proc and /sys, of this machine",
    "models/store/fetching/hub.py": "files of the package",
    "models/speech/fastconformer/nemo_archive.py": "written by our own process, in a folder made for it",
    "models/language/minilm.py": "from the model store, where it has matched its hash",
    "models/store/registry.py": "files of the package",
    "stages/language/pool/confidence.py": "files of the package",
    "stages/language/pool/expected.py": "files of the package",
    "transports/fleet/segment.py": "written by a node or its hub, in a folder that is its own",
    "transports/grpc/wire.py": "files of the package",
}
"""Who reads whole files in another way, and why nobody else has a say in what is read."""


@pytest.mark.parametrize("room", ["pipeline", "models", "transports", "stages", "deploy"])
def test_files_that_somebody_names_are_read_by_the_one_reader(room: str) -> None:
    found = set()
    for path in sorted((ROOT / room).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(("deploy/bench/", "models/recipes/")) or name in OURS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in READS:
                found.add(f"{name}:{node.lineno}")
    assert found == set(), "use thalweg.models.store.bounded"
