"""The logs of a deployment: read from the end, followed, and bounded in size."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from thalweg.deploy.ops.keeping.deployments import DeploymentFolder, KeepingError
from thalweg.pipeline.suggestion import nearest
from thalweg.stages.io.private import create_private

MOST_BYTES = 10_000_000
FOLLOW_S = 0.2
SUPERVISOR = "supervisor"
_COLOR = r"(?:\x1b\[[0-9;]*m)*"
_FROM_RAY = re.compile(rf"{_COLOR}\((?P<name>[\w.-]+) pid=\d+(?:, ip=[^)]*)?\){_COLOR} ?(?P<line>.*)")


def trim(path: Path) -> None:
    """Move a log that has grown beyond 10 MB to `NAME.log.1` and go on with an empty one.

    Its writers keep it open and add to its end; what they write between the copy and the cut is lost.
    """
    if path.exists() and path.stat().st_size > MOST_BYTES:
        with path.open("rb") as full, create_private(path.with_name(path.name + ".1")) as before:
            shutil.copyfileobj(full, before)
        os.truncate(path, 0)


def log_lines(folder: DeploymentFolder, worker: str | None, lines: int, follow: bool) -> Iterator[str]:
    """The last `lines` lines of every log, or of a worker and its replicas; `NAME | ` before each if there are several.

    What Ray workers print arrives in the supervising process, marked with who said it. `follow`: go on with what is
    added, until the deployment ends. Raises KeepingError on a worker that there is not.
    """
    if folder.state.get("foreground"):
        raise KeepingError(
            f"{folder.name} runs in the foreground and prints where it was started; under systemd see `journalctl`"
        )
    sources = _sources(folder, worker)
    width = max(len(name) for name in sources)
    several = len(sources) > 1
    tails = {name: _Tail(path) for name, path in sources.items()}
    only_ray = _workers(folder, worker) - _files(folder).keys() if worker is not None else None

    def said(name: str, line: str) -> Iterator[str]:
        if not only_ray:
            yield f"{name:{width}} | {line}" if several else line
        elif (mark := _FROM_RAY.match(line)) and mark["name"] in only_ray:
            yield f"{mark['name']} | {mark['line']}" if len(only_ray) > 1 else mark["line"]

    for name, tail in tails.items():
        before = [told for line in tail.read() for told in said(name, line)]
        yield from before[max(0, len(before) - lines) :]
    while follow:
        ended = not folder.is_up
        news = False
        for name, tail in tails.items():
            for line in tail.read():
                news = True
                yield from said(name, line)
        if ended and not news:
            return
        if not news:
            time.sleep(FOLLOW_S)


class _Tail:
    """Reads whole lines from where it stopped; begins anew in a file that was cut."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._rest = b""

    def read(self) -> list[str]:
        try:
            with self._path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._at:
                    self._at, self._rest = 0, b""
                file.seek(self._at)
                new = file.read()
                self._at = file.tell()
        except FileNotFoundError:
            return []
        *lines, self._rest = (self._rest + new).split(b"\n")
        return [line.decode(errors="replace") for line in lines]


def _files(folder: DeploymentFolder) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.logs.glob("*.log"))} | {SUPERVISOR: folder.supervisor_log}


def _sources(folder: DeploymentFolder, worker: str | None) -> dict[str, Path]:
    files = _files(folder)
    if worker is None:
        return files
    wanted = _workers(folder, worker)
    if wanted & files.keys():
        return {name: files[name] for name in sorted(wanted & files.keys())}
    if wanted:
        return {SUPERVISOR: folder.supervisor_log}
    known = sorted({*files, *folder.state.get("workers", [])})
    raise KeepingError(f"{folder.name} has no worker {worker!r}{nearest(worker, known)}; it has: {', '.join(known)}")


def _workers(folder: DeploymentFolder, worker: str) -> set[str]:
    """The workers called so: one, or its replicas, or none."""
    known = {*_files(folder), *folder.state.get("workers", [])}
    return {worker} & known or {name for name in known if re.fullmatch(rf"{re.escape(worker)}\.\d+", name)}
