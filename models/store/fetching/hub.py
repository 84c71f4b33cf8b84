"""Public streaming checkpoints on the Hugging Face hub: which there are, and how they are downloaded.

The registry pins every file by its hash. Third-party checkpoints that are not in it have no pinned hash: the hub states
one (`X-Linked-Etag`, the SHA-256 of a large file), and the download must match that. A user can pin a checkpoint:
`NAME@COMMIT#SHA256`, or either part alone. `pinned` gives the hash of a downloaded one.
"""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from thalweg.models.errors import ModelError
from thalweg.models.http.address import Address
from thalweg.models.store.fetching.download import LARGEST, Progress, download, opener
from thalweg.models.store.store import default_root, locked, sha256

_NEWEST = "main"
_HASH = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_ASKED = re.compile(r"(?P<name>[^@#]+)(@(?P<revision>[0-9A-Za-z._-]{1,100}))?(#(?P<hash>[0-9a-fA-F]{64}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class HubCheckpoint:
    """A public checkpoint: `name` is the repository, `file` its archive."""

    name: str
    file: str
    revision: str
    licence: str
    summary: str


def checkpoints() -> dict[str, HubCheckpoint]:
    """Those of `checkpoints.yaml` by name."""
    listed = yaml.safe_load(files("thalweg.models.store").joinpath("checkpoints.yaml").read_text(encoding="utf-8"))
    return {name: HubCheckpoint(name=name, **entry) for name, entry in listed.items()}


def local_checkpoint(name: str, root: Path | None = None) -> Path:
    """Where a checkpoint lies once it is here."""
    checkpoint, _ = _find(name)
    revision = "" if checkpoint.revision == _NEWEST else f"@{checkpoint.revision}"
    return (root or default_root()) / f"{checkpoint.name.replace('/', '--')}{revision}" / checkpoint.file


def pinned(name: str, root: Path | None = None) -> str:
    """How to ask for the very file that is here, and no other."""
    checkpoint, _ = _find(name)
    revision = "" if checkpoint.revision == _NEWEST else f"@{checkpoint.revision}"
    return f"{checkpoint.name}{revision}#{sha256(local_checkpoint(name, root))}"


def pull_checkpoint(name: str, progress: Progress, root: Path | None = None) -> Path:
    """Fetch a checkpoint, whole and with the hash that was pinned or the hub states, or not at all. Raises ModelError.

    `HF_ENDPOINT` names another hub, `HF_TOKEN` is sent where it is set: by https, or to this machine.
    """
    checkpoint, hashed = _find(name)
    target = local_checkpoint(name, root)
    if target.exists():
        return _as_pinned(target, hashed)
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if not hub.startswith(("https://", "http://")):
        raise ModelError(f"HF_ENDPOINT is {hub!r}, expected an address such as https://huggingface.co")
    address = f"{hub}/{checkpoint.name}/resolve/{checkpoint.revision}/{checkpoint.file}"
    headers = {"Authorization": f"Bearer {os.environ['HF_TOKEN']}"} if os.environ.get("HF_TOKEN") else {}
    if headers and hub.startswith("http://") and not Address.parse(hub).loopback:
        raise ModelError(f"HF_TOKEN is not sent to {hub} in clear: give HF_ENDPOINT as https://…, or unset HF_TOKEN")
    size, expected = _stated(address, headers)
    if hashed and expected != hashed:
        raise ModelError(f"{address} is another file than was pinned: the hub states sha256 {expected}")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with locked(target.with_name(target.name + ".lock")):
        if target.exists():  # another process was quicker
            return _as_pinned(target, hashed)
        download(address, part, size, progress, headers)
        found = sha256(part)
        if found != expected:
            part.unlink()
            raise ModelError(f"{address} gave another file than the hub states: sha256 {found[:12]}…")
        part.rename(target)
    return target


def _as_pinned(target: Path, hashed: str) -> Path:
    if hashed and (found := sha256(target)) != hashed:
        raise ModelError(f"{target} is another file than was pinned: sha256 {found}. Remove it and pull again")
    return target


def _find(asked: str) -> tuple[HubCheckpoint, str]:
    """The checkpoint, at the revision that is asked for, and the hash that it must have, if that was said."""
    known, parts = checkpoints(), _ASKED.fullmatch(asked)
    if parts is None:
        raise ModelError(f"{asked!r} names no checkpoint, expected OWNER/NAME, OWNER/NAME@COMMIT or …#SHA256")
    name, revision, hashed = parts["name"], parts["revision"], parts["hash"] or ""
    if name not in known:
        raise ModelError(f"no checkpoint {name!r} is known here; there are {', '.join(known)}")
    return replace(known[name], revision=revision or known[name].revision), hashed.lower()


class _Stay(urllib.request.HTTPRedirectHandler):
    """The hub states size and hash beside the redirection, so it is not followed."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _stated(address: str, headers: dict[str, str]) -> tuple[int, str]:
    try:
        with opener(_Stay).open(urllib.request.Request(address, headers=headers, method="HEAD"), timeout=30) as answer:
            said = answer.headers
    except urllib.error.HTTPError as error:
        if error.code not in (301, 302, 303, 307, 308):
            raise ModelError(f"{address} answered {error.code} {error.reason}") from None
        said = error.headers
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise ModelError(f"{address} cannot be reached: {getattr(error, 'reason', error)}") from None
    etag = (said.get("X-Linked-Etag") or "").strip('"')
    size = said.get("X-Linked-Size") or said.get("Content-Length") or "0"
    if not _HASH.fullmatch(etag) or not (size.isascii() and size.isdecimal()):
        raise ModelError(f"{address}: the hub states no SHA-256 for this file")
    if len(size) > len(str(LARGEST)) or int(size) > LARGEST:
        raise ModelError(
            f"{address}: the hub states more than {LARGEST / 1e9:g} GB for this file, which is no checkpoint"
        )
    return int(size), etag
