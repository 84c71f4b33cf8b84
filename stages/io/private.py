"""Files that hold what people said, secrets or logs: only the user who runs the process can read them (mode 0600).

Everything that writes such a file opens it here; `tests/test_writing.py` fails where something opens one for writing in
another way. A new file is made, never found: who may write into its folder (`/tmp`) could have put a link in its place,
or a file of their own that they may read. The recorder (`transports/recording.py`) does the same by itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import IO

MODE = 0o600
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_ADD = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def create_private(path: Path) -> IO[bytes]:
    """Create a file at `path`, in place of an existing one. Raises OSError, also where that cannot be removed."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    return os.fdopen(os.open(path, _NEW, MODE), "wb")


def append_private(path: Path) -> IO[bytes]:
    """Open the file at `path` for reading and appending, or create it. Its mode becomes 0600.

    Raises OSError where it is not a regular file (a link, a pipe), or belongs to another user.
    """
    opened = os.open(path, _ADD, MODE)
    try:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "it belongs to another user", str(path))
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(opened, MODE)
        return os.fdopen(opened, "a+b")
    except BaseException:
        os.close(opened)
        raise
