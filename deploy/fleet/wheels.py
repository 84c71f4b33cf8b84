"""Wheels among the files of a release: unpacked on the node into a folder of that release, where its pipeline's
processes find modules behind what is installed. Nothing is installed, and no code of a wheel runs before a pipeline
imports it.

A wheel is a zip archive (https://packaging.python.org/specifications/binary-distribution-format). Of its `.data` folder
what belongs among modules is taken; scripts and headers are left out, and so is what `.pth` files would do.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from thalweg.deploy.fleet.errors import FleetError
from thalweg.stages.io.private import create_private
from thalweg.transports.fleet.durable import sync_folder

SUFFIX = ".whl"
MOST_ENTRIES, MOST_BYTES = 20_000, 4 << 30
"""Of one wheel, unpacked."""
_CHUNK = 1 << 18


def is_wheel(path: str) -> bool:
    """Whether a file of a release is unpacked on the node."""
    return path.endswith(SUFFIX)


def check_name(name: str, *, here: bool = False) -> None:
    """Raises FleetError where that cannot name a wheel; `here`: or one that this machine's Python cannot import."""
    try:
        from packaging.tags import sys_tags
        from packaging.utils import InvalidWheelFilename, parse_wheel_filename
    except ImportError:
        raise FleetError("wheels in a release need the package packaging: pip install 'thalweg[edge]'") from None
    try:
        *_, tags = parse_wheel_filename(name)
    except InvalidWheelFilename:
        raise FleetError(f"{name} is no name of a wheel, expected NAME-VERSION-PYTHON-ABI-PLATFORM.whl") from None
    if here and not tags & set(sys_tags()):
        ours = next(iter(sys_tags()))
        raise FleetError(f"{name} is for another Python or platform: this is {ours}, and any `py3-none-any` will do")


def check_wheel(path: Path, name: str) -> None:
    """Raises FleetError where nodes would refuse it, whatever they are; OSError where it cannot be read."""
    check_name(name)
    with _opened(path, name) as archive:
        list(_entries(archive, name))


def unpack(path: Path, name: str, folder: Path, room: int) -> None:
    """Put the modules of a wheel into a folder, forced to the disk; what is there is not overwritten. `room`: bytes
    that they may take.

    Raises FleetError on a wheel that this machine cannot import, is damaged, leads out of the folder, is too large, or
    holds a file that is there already; OSError.
    """
    check_name(name, here=True)
    with _opened(path, name) as archive:
        entries = list(_entries(archive, name))
        if (size := sum(entry.file_size for entry, _ in entries)) > room:
            raise FleetError(f"{name} unpacks to {size / 1e6:.1f} MB, and {room / 1e6:.1f} MB of the disk are free")
        for entry, inside in entries:
            place = folder / inside
            taken = os.path.lexists(place)
            try:
                place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            except (FileExistsError, NotADirectoryError):
                taken = True
            if taken:
                raise FleetError(f"{name} holds {inside}, which another wheel, or itself, does, too")
            with create_private(place) as writing, archive.open(entry) as reading:
                while chunk := reading.read(_CHUNK):
                    writing.write(chunk)
                writing.flush()
                os.fsync(writing.fileno())
    for inner, _, _ in os.walk(folder):
        sync_folder(Path(inner))


@contextmanager
def _opened(path: Path, name: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (OSError, FleetError):
        raise
    except Exception as error:  # zipfile raises a dozen kinds on garbage
        raise FleetError(f"{name} is no wheel, or damaged: {type(error).__name__}") from None


def _entries(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The files that belong among modules, and where. Raises FleetError."""
    found = archive.infolist()
    size = sum(entry.file_size for entry in found)
    if len(found) > MOST_ENTRIES or size > MOST_BYTES:
        raise FleetError(f"{name} holds {len(found)} files of {size / 1e6:.0f} MB, which is too much for a wheel")
    for entry in found:
        path = PurePosixPath(entry.filename)
        bad = path.is_absolute() or ".." in path.parts or not path.parts or set(entry.filename) & set("\\\0:")
        if bad or stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise FleetError(f"{name} holds {entry.filename!r}, which leads out of its folder or is no file")
        if entry.flag_bits & 1:
            raise FleetError(f"{name} is encrypted")
        parts = path.parts
        if parts[0].endswith(".data"):
            parts = parts[2:] if len(parts) > 2 and parts[1] in ("purelib", "platlib") else ()
        if parts and not entry.is_dir():
            yield entry, PurePosixPath(*parts)
