"""Running a peer in an environment of its own: `.peers/NAME`, or `$THALWEG_PEERS/NAME`, made by `make bench-peers`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from importlib.resources import as_file, files
from pathlib import Path
from typing import IO, Any

from thalweg.deploy.bench.result import Result
from thalweg.deploy.bench.rounds import LIMIT_S, LeftOut

MERCY_S = 2.0
"""How long what a peer has started is given to end by itself."""


def run_peer(
    name: str,
    script: str,
    arguments: list[str],
    result: Result,
    *,
    system: str | None = None,
    what: str = "",
    limit_s: float = LIMIT_S,
) -> Any:
    """Run a script of this folder with a peer's Python and return the JSON it prints, or None with a note.

    `system`: what the peer is called in the rows, if it has more than one there; `what`: which round this is. A peer
    that is not installed, fails or does not end is left out from then on. `Any`: what the script prints.
    """
    system = system or name

    def ask() -> Any:
        found = ask_peer(name, script, arguments)
        result.versions[name] = found["version"]
        return found

    return result.rounds.peer(system, what, ask, limit_s)


def ask_peer(name: str, script: str, arguments: list[str]) -> Any:
    """What a script of this folder prints, run by a peer's Python. Raises LeftOut where it prints nothing of use."""
    python = Path(os.environ.get("THALWEG_PEERS", ".peers")) / name / "bin" / "python"
    if not python.exists():
        raise LeftOut("it is not installed (`make bench-peers`)")
    # into files: what a peer leaves running keeps a pipe open, which then has no end
    with (
        as_file(files("thalweg.deploy.bench").joinpath(script)) as path,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        process = subprocess.Popen(
            [str(python), str(path), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        try:
            code = process.wait()
        finally:
            _end(process)
        said, last = _lines(output), _lines(errors)[-1:]
    if code:
        raise LeftOut(f"its script failed: {(last or ['no output'])[0]}")
    if not said:
        raise LeftOut("its script said nothing")
    return json.loads(said[-1])


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a peer and what it has left in its group."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        with suppress(subprocess.TimeoutExpired):
            process.wait(MERCY_S)


def _lines(file: IO[bytes]) -> list[str]:
    file.seek(0)
    return file.read().decode(errors="replace").strip().splitlines()
