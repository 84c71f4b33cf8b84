"""A model's file that is not what it should be: what it is instead, and what to do about it."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path

from thalweg.models.errors import ModelError
from thalweg.models.store.store import default_root

_MARKS = (
    (b"version https://git-lfs", "it is a pointer of Git LFS and not the file itself: run `git lfs pull`"),
    (b"<!doctype html", "it is a web page: the download gave a page to sign in or an error instead of the file"),
    (b"<html", "it is a web page: the download gave a page to sign in or an error instead of the file"),
    (b"<?xml", "it is an answer of a server in XML, such as an error, and not the file"),
    (b'{"error', "it is an answer of a server, an error, and not the file"),
)


def damaged(path: Path, reason: object = "") -> ModelError:
    """The error for a file that cannot be read as a model. `reason`: what the reader said of it."""
    try:
        with path.open("rb") as file:
            head = file.read(64).lstrip().lower()
            size = path.stat().st_size
    except OSError as error:
        return ModelError(f"{path} cannot be read: {error.strerror}. {_remedy(path)}")
    found = next((said for mark, said in _MARKS if head.startswith(mark)), "")
    if not found:
        why = " ".join(str(reason).split())[:300]
        found = (f"it holds {size:,} bytes" if size else "it is empty") + (f" ({why})" if why else "")
    return ModelError(f"{path} is damaged or no model: {found}. {_remedy(path)}")


def _remedy(path: Path) -> str:
    place = path.absolute()
    if place.is_relative_to(Path(str(files("thalweg.models")))):
        return "It came with the package: install thalweg again"
    root = default_root().absolute()
    if place.is_relative_to(root):
        name = place.relative_to(root).parts[0].replace("--", "/")
        return f"Delete it (rm {shlex.quote(str(path))}) and run `thalweg models pull {name}`"
    return "Fetch it again from where it came from"
