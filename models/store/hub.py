"""Public streaming checkpoints on the Hugging Face hub: which there are, and how they come here.

The registry pins every file by its hash. For checkpoints of other people's that nobody here has held in hands there is
no hash to pin: the hub states one (`X-Linked-Etag`, the SHA-256 of a large file), and what arrives must match that.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from thalweg.models.errors import ModelError
from thalweg.models.store.download import Progress, download
from thalweg.models.store.store import default_root, locked, sha256


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A public checkpoint: `name` is the repository, `file` its archive."""

    name: str
    file: str
    revision: str
    licence: str
    summary: str


def checkpoints() -> dict[str, Checkpoint]:
    """Those of `checkpoints.yaml` by name."""
    listed = yaml.safe_load(files("thalweg.models.store").joinpath("checkpoints.yaml").read_text(encoding="utf-8"))
    return {name: Checkpoint(name=name, **entry) for name, entry in listed.items()}


def local_checkpoint(name: str, root: Path | None = None) -> Path:
    """Where a checkpoint lies once it is here."""
    checkpoint = _find(name)
    return (root or default_root()) / name.replace("/", "--") / checkpoint.file


def pull_checkpoint(name: str, progress: Progress, root: Path | None = None) -> Path:
    """Fetch a checkpoint, whole and with the hash the hub states, or not at all. Raises ModelError.

    `HF_ENDPOINT` names another hub, `HF_TOKEN` is sent where it is set.
    """
    checkpoint = _find(name)
    target = local_checkpoint(name, root)
    if target.exists():
        return target
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if not hub.startswith(("https://", "http://")):
        raise ModelError(f"HF_ENDPOINT is {hub!r}, expected an address such as https://huggingface.co")
    address = f"{hub}/{name}/resolve/{checkpoint.revision}/{checkpoint.file}"
    headers = {"Authorization": f"Bearer {os.environ['HF_TOKEN']}"} if os.environ.get("HF_TOKEN") else {}
    size, expected = _stated(address, headers)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with locked(target.with_name(target.name + ".lock")):
        if target.exists():
            return target
        download(address, part, size, progress, headers)
        found = sha256(part)
        if found != expected:
            part.unlink()
            raise ModelError(f"{address} gave another file than the hub states: sha256 {found[:12]}…")
        part.rename(target)
    return target


def _find(name: str) -> Checkpoint:
    known = checkpoints()
    if name not in known:
        raise ModelError(f"no checkpoint {name!r} is known here; there are {', '.join(known)}")
    return known[name]


class _Stay(urllib.request.HTTPRedirectHandler):
    """The hub states size and hash beside the redirection, so it is not followed."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _stated(address: str, headers: dict[str, str]) -> tuple[int, str]:
    opener = urllib.request.build_opener(_Stay)
    try:
        with opener.open(urllib.request.Request(address, headers=headers, method="HEAD"), timeout=30) as answer:
            said = answer.headers
    except urllib.error.HTTPError as error:
        if error.code not in (301, 302, 303, 307, 308):
            raise ModelError(f"{address} answered {error.code} {error.reason}") from None
        said = error.headers
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise ModelError(f"{address} cannot be reached: {getattr(error, 'reason', error)}") from None
    etag = (said.get("X-Linked-Etag") or "").strip('"')
    size = said.get("X-Linked-Size") or said.get("Content-Length") or "0"
    if len(etag) != 64 or not size.isdigit():
        raise ModelError(f"{address}: the hub states no SHA-256 for this file")
    return int(size), etag
