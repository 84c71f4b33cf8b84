"""The folders of the user that runs us, also where there is no home: containers with any user id have none.

Caches and state lie where the XDG base directory specification has them. Where `HOME` is not set and the user id is in
no passwd file they lie in a folder of the system's temporary one that is the user's alone.
"""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from pathlib import Path

from thalweg.models.errors import ModelError


def user_folder(variable: str, inside: str) -> Path:
    """The folder that the environment names, or `inside` the home folder. Raises ModelError where there is none.

    `variable`: one of XDG's, which holds an absolute path; a relative one is ignored.
    """
    given = os.environ.get(variable, "")
    if os.path.isabs(given):
        return Path(given)
    home = os.environ.get("HOME", "")
    if not os.path.isabs(home):
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return _without_home(variable) / inside
    return Path(home) / inside


def expanded(path: str | Path) -> Path:
    """A path with `~` put in, where there is a home to put in."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def make_private(folder: Path) -> Path:
    """A folder for this user alone, made if needed; one that others could have put there is refused by ModelError."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ModelError(f"{folder}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ModelError(f"{folder} is open to other users")
    return folder


def _without_home(variable: str) -> Path:
    try:
        return make_private(Path(tempfile.gettempdir()) / f"thalweg-{os.getuid()}")
    except ModelError as error:
        raise ModelError(f"there is no home folder, and {error}. Set {variable}, or HOME") from None
