"""`thalweg up` and `down`: beginning and ending a deployment that stays."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from thalweg.deploy.ops.keeping.control import Control
from thalweg.deploy.ops.keeping.deployments import MARK, DeploymentFolder, KeepingError
from thalweg.deploy.ops.observing.report import OutputError, write_whole
from thalweg.deploy.reading import module_folders, pack, read_spec, staying
from thalweg.models.child_process import module_path, python_module
from thalweg.pipeline.errors import ThalwegError
from thalweg.stages.io.private import append_private

LAST_LINES = 8
KILL_AFTER_S = 8.0
PROBE_BYTES = 65_536
LOOK_S = 0.05


class UpError(ThalwegError):
    """A pipeline that did not come up; nothing of it runs."""


def bring_up(
    file: Path,
    settings: Mapping[str, str],
    *,
    name: str | None,
    ray: str | None,
    metrics: str | None,
    within_s: float,
    foreground: bool,
) -> tuple[DeploymentFolder, int]:
    """Start the supervising process and wait until the pipeline is ready; the deployment, and 0.

    With `foreground` this process is the supervising one, workers print where it does, and what comes back is a
    deployment that has ended and the exit code of its run: 1 where anything went wrong on the way.
    Raises SpecError, KeepingError where one of that name is up, UpError where it does not come up `within_s`.
    """
    if not Path("/proc/self/environ").exists():
        raise UpError(
            "`up` needs Linux: without /proc it cannot find the processes of a deployment that crashed. "
            "`thalweg run` works here, also under launchd or another keeper of services"
        )
    spec = read_spec(file, settings)
    folder = DeploymentFolder(name or _name_of(spec.graph.name))
    bundle = replace(pack(staying(spec), str(file), module_folders(file)), stays=True)
    lock = folder.take()
    if lock is None:
        raise KeepingError(
            f"{folder.name} is up already: end it with `thalweg down {folder.name}`, or give this one a --name"
        )
    try:
        folder.kill_processes()
        folder.clear()
        folder.logs.mkdir()
        asked = {"bundle": bundle.plain(), "metrics": metrics, "foreground": foreground}
        write_whole(folder.path / "request.json", json.dumps(asked))
        environment = {MARK: str(folder.path), "PYTHONUNBUFFERED": "1", "RAY_DEDUP_LOGS": "0"}
        environment |= {"RAY_ADDRESS": ray} if ray is not None else {}
        if foreground:
            from thalweg.deploy.ops.keeping.keeper import main

            os.environ.update(environment)
            code = main(folder.name, None)
            if code and folder.state["state"] == "failed":
                what = "failed" if folder.state.get("came_up") else "did not come up"
                raise UpError(f"{folder.name} {what}: {folder.state['reason']}")
            return folder, code
        _start(folder, lock, environment, within_s)
    finally:
        os.close(lock)
    return folder, 0


def _start(folder: DeploymentFolder, lock: int, environment: dict[str, str], within_s: float) -> None:
    """Start the supervising process and wait for its word."""
    ready, answer = os.pipe()
    with append_private(folder.supervisor_log) as log, os.fdopen(ready, "rb") as hearing:
        keeper = subprocess.Popen(
            python_module("thalweg.deploy.ops.keeping.keeper", folder.name, str(lock), str(answer)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock, answer],
            start_new_session=True,
            env=os.environ | environment | module_path(),
        )
        os.close(answer)
        try:
            said = _hear(hearing.fileno(), within_s)
        except BaseException:  # Ctrl-C while it comes up: then it shall not
            _end(folder, keeper)
            raise
    if said is None:
        _end(folder, keeper)
        raise UpError(
            f"{folder.name} was not ready within {within_s:g} s and was ended; "
            f"`thalweg logs {folder.name}` shows how far it came, --within gives it longer"
        )
    if not said:
        keeper.wait()
        folder.kill_processes()
        raise UpError(f"the supervising process of {folder.name} died:\n{_last_lines(folder)}")
    told = json.loads(said)
    if "failed" in told:
        keeper.wait()
        raise UpError(f"{folder.name} did not come up: {told['failed']}")
    keeper.returncode = 0  # it is detached from here on: Popen need not warn that it lives


def _hear(ready: int, within_s: float) -> bytes | None:
    """The line of the supervising process; nothing where it died without one, None where it took too long."""
    heard = b""
    until_s = time.monotonic() + within_s
    while not heard.endswith(b"\n"):
        if not select.select([ready], [], [], max(0.0, until_s - time.monotonic()))[0]:
            return None
        part = os.read(ready, 65536)
        if not part:
            return b""
        heard += part
    return heard


def _end(folder: DeploymentFolder, keeper: subprocess.Popen[bytes]) -> None:
    keeper.send_signal(signal.SIGTERM)
    try:
        keeper.wait(KILL_AFTER_S)
    except subprocess.TimeoutExpired:
        keeper.kill()
        keeper.wait()
    folder.kill_processes()


def _last_lines(folder: DeploymentFolder) -> str:
    with suppress(OSError):
        return "\n".join(folder.supervisor_log.read_text(errors="replace", encoding="utf-8").splitlines()[-LAST_LINES:])
    return ""


def _name_of(pipeline: str) -> str:
    """A pipeline's name as one of a deployment: what cannot stand in it becomes a dash."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in pipeline).strip("-_")[:63]


def take_down(folder: DeploymentFolder, within_s: float) -> str:
    """End a deployment and remove what is left of it; says what came of it.

    Its sources end and what is under way is worked off, `within_s` at most; what is not done by then is given up,
    and a supervising process that does not end even so is killed with its workers. In the end nothing of it is left.
    """
    was = folder.state["state"]
    if folder.is_up:
        try:
            with Control(folder) as control:
                control.ask("down", drain_s=within_s)
        except KeepingError:  # it is not listening yet, or no longer
            _terminate(folder)
        until_s = time.monotonic() + within_s + KILL_AFTER_S
        while folder.is_up and time.monotonic() < until_s:
            time.sleep(LOOK_S)
    killed = folder.is_up
    folder.kill_processes()
    until_s = time.monotonic() + KILL_AFTER_S
    while (lock := folder.take()) is None:
        if time.monotonic() > until_s:
            pids = ", ".join(map(str, folder.processes()))
            raise KeepingError(f"{folder.name} cannot be ended: process {pids} does not even heed SIGKILL")
        time.sleep(LOOK_S)
    try:
        told = _came_of(folder, was, killed)
        folder.remove()
    finally:
        os.close(lock)
    return told


def _terminate(folder: DeploymentFolder) -> None:
    with suppress(ProcessLookupError, KeyError, TypeError):
        os.kill(folder.state["pid"], signal.SIGTERM)


def _came_of(folder: DeploymentFolder, was: str, killed: bool) -> str:
    if killed:
        return "it did not answer and was killed"
    if was in ("lost", "failed"):
        return f"it was {was} before; cleared away"
    try:
        report = json.loads(folder.report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"it ended without a report{_why(folder)}"
    turns = f", {len(report['turns'])} turns" if report["turns"] else ""
    return f"ran {report['duration_ms'] / 1e3:.1f} s{turns}, {report['error_count']} error(s)"


def _why(folder: DeploymentFolder) -> str:
    """What kept the report from being written, as far as that is still to be seen."""
    try:
        write_whole(folder.report, "\0" * PROBE_BYTES)
    except OutputError as error:
        return f": {error}"
    said = folder.state.get("unreported")
    return f": {said}" if said else ""
