"""The node's disk while it takes nothing, full or read-only: said once, and tried until it takes something again.

What runs goes on meanwhile. What has to be written for that, sockets and what keepers of pipelines remember, finds a
place in memory.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import tempfile
import threading
import time
from pathlib import Path

from thalweg.deploy.fleet.errors import FleetError
from thalweg.models.errors import ModelError
from thalweg.models.store.home import make_private
from thalweg.transports.fleet.durable import replace_file

log = logging.getLogger(__name__)

PROBE, PROBE_BYTES = "probe", 256 << 10
"""What is written to see whether the disk works: more than anything else the agent keeps beside the spool."""
PROBE_S = 5.0
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class Disk:
    """Of one folder; safe to be called from several threads. `problem`: why it takes nothing, empty where it does."""

    def __init__(self, folder: Path) -> None:
        self.problem = ""
        self.folder = folder
        self._lock = threading.Lock()
        self._probed_s = -PROBE_S

    def keep(self, path: Path, data: bytes) -> bool:
        """Put a file in its place, durably; False where the disk does not take it, which is said once."""
        try:
            replace_file(path, data)
        except OSError as error:
            self.failed(error.strerror or str(error))
            return False
        return True

    def failed(self, reason: str) -> None:
        """Something could not be written."""
        with self._lock:
            if not self.problem:
                log.error(
                    "the disk takes nothing at %s: %s; what runs goes on, events are refused until it does",
                    self.folder,
                    reason,
                )
                self.problem = reason

    def look(self) -> None:
        """Try a disk that took nothing, every few seconds."""
        now_s = time.monotonic()
        if not self.problem or now_s - self._probed_s < PROBE_S:
            return
        self._probed_s = now_s
        try:
            self._probe()
        except OSError:
            return
        with self._lock:
            self.problem = ""
        log.warning("the disk takes what is written at %s again", self.folder)

    def place(self) -> Path:
        """The folder, or while the disk takes nothing one in memory. Raises FleetError where there is none."""
        try:
            self._probe()
        except OSError as error:
            self.failed(error.strerror or str(error))
            return in_memory(self.folder)
        return self.folder

    def _probe(self) -> None:
        """Raises OSError where it takes nothing."""
        path = self.folder / PROBE
        replace_file(path, bytes(PROBE_BYTES))
        path.unlink()


def in_memory(folder: Path) -> Path:
    """A folder of this user's alone for what does not outlive the machine, the same at each call for the same `folder`.

    Raises FleetError where there is none.
    """
    base = next(
        (
            place
            for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR")
            if os.path.isabs(place := os.environ.get(name, ""))
        ),
        "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir(),
    )
    known = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
    try:
        return make_private(Path(base) / f"thalweg-node-{os.getuid()}-{known}")
    except ModelError as error:
        raise FleetError(f"nothing can be written at {folder}, and {error}") from None
