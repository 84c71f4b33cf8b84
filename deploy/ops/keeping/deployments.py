"""Where deployments that stay keep what is known of them: a folder each, under the user's state folder.

    $XDG_STATE_HOME/thalweg/deployments/NAME/      (~/.local/state where it is not set); the owner's alone
        lock             held by the supervising process for as long as it lives
        request.json     the pipeline file as it was when it was brought up, and how to run it
        state.json       what became of it so far
        control.sock     where the supervising process is asked and told
        supervisor.log, logs/WORKER.log
        report.json      once it has ended

Whether a deployment is up is asked of the lock, and of nothing else: the kernel lets go of it when its holder dies,
however that happens, so no crash, reboot or reused process number can pass for a deployment that runs.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from thalweg.models.store.home import user_folder
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.suggestion import nearest

MARK = "THALWEG_DEPLOYMENT"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class KeepingError(ThalwegError):
    """A deployment that is not there, is there already, or does not answer."""


class DeploymentFolder:
    """The folder of one deployment, whether it is up or not. Raises KeepingError on a name that cannot be one."""

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise KeepingError(f"{name!r} cannot name a deployment: use letters, digits, _ and -; give one with --name")
        self.name = name
        self.path = root() / name

    @property
    def logs(self) -> Path:
        """Where workers write what they print."""
        return self.path / "logs"

    @property
    def supervisor_log(self) -> Path:
        """What the supervising process has to say."""
        return self.path / "supervisor.log"

    @property
    def report(self) -> Path:
        """What came of it, once it has ended."""
        return self.path / "report.json"

    def take(self) -> int | None:
        """Take the lock, and create the folder if needed. Returns its descriptor, or None where it is held already."""
        while True:
            try:
                for folder in (self.path.parents[1], self.path.parent, self.path):  # names of deployments are private
                    folder.mkdir(parents=folder == self.path.parents[1], exist_ok=True, mode=0o700)
                held = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            except OSError as error:
                raise _unusable(error) from None
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(held)
                return None
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(held), (self.path / "lock").stat()):
                    return held
            os.close(held)  # it was taken down just now: the lock we hold is of a file that is gone

    @property
    def is_up(self) -> bool:
        """Whether its supervising process lives."""
        try:
            file = os.open(self.path / "lock", os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    @property
    def state(self) -> dict[str, Any]:
        """What was last written; `state` is `lost` where the supervising process is gone without having said so."""
        try:
            known: dict[str, Any] = json.loads((self.path / "state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {"state": "starting"}
        if known["state"] not in ("ended", "failed") and not self.is_up:
            known["state"] = "lost"
        return known

    def write_state(self, known: dict[str, Any]) -> None:
        """Remember what became of it so far."""
        from thalweg.deploy.ops.observing.report import write_whole  # 30 MB, which readers do not need

        write_whole(self.path / "state.json", json.dumps(known))

    def clear(self) -> None:
        """Empty the folder, except for the lock, which the caller must hold."""
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def remove(self) -> None:
        """Remove the whole folder. The caller must hold the lock."""
        shutil.rmtree(self.path, ignore_errors=True)

    def processes(self) -> list[int]:
        """Those of this deployment that are alive: what its supervising process started, and that one itself."""
        mark = f"{MARK}={self.path}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def kill_processes(self) -> None:
        """Kill the processes that are left, except this one. Only for a deployment without a keeper."""
        for pid in set(self.processes()) - {os.getpid()}:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def root() -> Path:
    """The folder of all deployments of this user."""
    return user_folder("XDG_STATE_HOME", ".local/state") / "thalweg" / "deployments"


def every() -> list[DeploymentFolder]:
    """All deployments there is something left of, by name."""
    try:
        return [DeploymentFolder(path.name) for path in sorted(root().iterdir()) if _NAME.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unusable(error) from None


def _unusable(error: OSError) -> KeepingError:
    return KeepingError(
        f"deployments cannot be kept under {root()}: {error.strerror}; name another folder in XDG_STATE_HOME"
    )


def find(name: str) -> DeploymentFolder:
    """The deployment of that name, up or not. Raises KeepingError where there is none."""
    found = DeploymentFolder(name)
    if not found.path.is_dir():
        names = [folder.name for folder in every()]
        have = f"; there are: {', '.join(names)}" if names else "; `thalweg up FILE` makes one"
        raise KeepingError(f"there is no deployment {name!r}{nearest(name, names) or have}")
    return found


def the_one(name: str | None, *, up: bool = True) -> DeploymentFolder:
    """The deployment of that name, or the only one there is; of those that are up, unless `up` is false.

    Raises KeepingError where there is none, or several and no name.
    """
    if name is not None:
        return find(name)
    found = [folder for folder in every() if folder.is_up or not up]
    if len(found) == 1:
        return found[0]
    if not found:
        raise KeepingError("nothing is up; `thalweg up FILE` begins a deployment that stays")
    raise KeepingError(f"there are several deployments, say which: {', '.join(folder.name for folder in found)}")
