"""Running a peer in an environment of its own: `.peers/NAME`, or `$THALWEG_PEERS/NAME`, made by `make bench-peers`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from thalweg.deploy.bench.result import Result


def run_peer(name: str, script: str, arguments: list[str], result: Result, timeout_s: float = 300) -> Any:
    """Run a script of this folder with a peer's Python and return the JSON it prints, or None with a note.

    `Any`: whatever the script says.
    """
    python = Path(os.environ.get("THALWEG_PEERS", ".peers")) / name / "bin" / "python"
    if not python.exists():
        result.notes.append(f"{name} is left out: it is not installed (`make bench-peers`)")
        return None
    with as_file(files("thalweg.deploy.bench").joinpath(script)) as path:
        process = subprocess.Popen(
            [str(python), str(path), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            encoding="utf-8",
        )
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            result.notes.append(f"{name} is left out of a round: its script did not end within {timeout_s:.0f} s")
            return None
    if process.returncode:
        last = errors.strip().splitlines()[-1:] or ["no output"]
        result.notes.append(f"{name} is left out: its script failed: {last[0]}")
        return None
    found = json.loads(output.strip().splitlines()[-1])
    result.versions[name] = found["version"]
    return found
