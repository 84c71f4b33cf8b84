"""Running a peer in an environment of its own: `.peers/NAME`, or `$THALWEG_PEERS/NAME`, made by `make bench-peers`."""

from __future__ import annotations

import json
import os
import subprocess
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from thalweg.deploy.bench.result import Result

PEERS = {"pipecat": "pipecat-ai==1.14.0"}
"""What `make bench-peers` installs, per peer."""


def run_peer(name: str, script: str, arguments: list[str], result: Result, timeout_s: float = 300) -> Any:
    """Run a script of this folder with a peer's Python and return the JSON it prints, or None with a note.

    `Any`: whatever the script says.
    """
    python = Path(os.environ.get("THALWEG_PEERS", ".peers")) / name / "bin" / "python"
    if not python.exists():
        result.notes.append(f"{name} is left out: it is not installed (`make bench-peers`)")
        return None
    with as_file(files("thalweg.deploy.bench").joinpath(script)) as path:
        done = subprocess.run(
            [str(python), str(path), *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
        )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        result.notes.append(f"{name} is left out: its script failed: {last[0]}")
        return None
    found = json.loads(done.stdout.strip().splitlines()[-1])
    result.versions[name] = found["version"]
    return found
