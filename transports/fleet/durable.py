"""Durable files: when a call returns, the file is on the disk, whole, and survives a loss of power."""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def synced_bytes(path: Path) -> bytes:
    """What is in a file, once it is on the disk: a process that was killed may have left it short of that.

    Raises OSError.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return file.read()


def replace_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put a file in its place: the one before is there until the new one is, and both survive a power cut.

    It is made, never found: who may write into its folder could have put a link there, or a file that they may read.
    Raises OSError; then the one before is there still.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        opened = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(opened, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def replace_link(path: Path, target: str) -> None:
    """Point a symbolic link elsewhere, in one step. Raises OSError."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    part.symlink_to(target)
    part.replace(path)
    sync_folder(path.parent)
