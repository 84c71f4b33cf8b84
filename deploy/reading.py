"""Reading pipeline files from the disk, and packing what was read for other processes."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from thalweg.deploy.cluster.host import Bundle
from thalweg.models.store.bounded import read_text_at_most
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.dump import dump_document
from thalweg.pipeline.file.spec import Spec, load_spec
from thalweg.transports.codec import CodecError, check_carried

MOST_BYTES = 4_000_000
"""Of a pipeline file; a million characters are read of it."""


class FileError(ThalwegError):
    """A pipeline file that cannot be read."""


def read_spec(path: Path, settings: Mapping[str, str]) -> Spec:
    """Read and check a pipeline file; classes beside it can be named in it. Raises FileError, SpecError."""
    for folder in module_folders(path):
        if folder not in sys.path:
            sys.path.append(folder)
    return load_spec(_read(path), str(path), settings=settings, read_file=_read_included, carried=carried_problem)


def carried_problem(payload: type) -> str | None:
    """What keeps payloads of this type in their process, if anything does."""
    try:
        check_carried(payload)
    except CodecError as error:
        return str(error)
    return None


def bundle_of(path: Path, settings: Mapping[str, str], *, traced: bool) -> Bundle:
    """Everything another process needs to read the same pipeline file. Raises as `read_spec`."""
    return pack(read_spec(path, settings), str(path), module_folders(path), traced=traced)


def pack(spec: Spec, name: str, folders: Sequence[str], *, traced: bool = False) -> Bundle:
    """Everything another process needs to have the same pipeline, called `name`. Raises DumpError.

    `folders`: where its modules lie, as `Bundle.paths`.
    """
    return Bundle(
        main=name,
        files={name: dump_document(spec.document)},
        settings={},
        token=secrets.token_hex(16),
        traced=traced,
        paths=tuple(folders),
    )


def module_folders(path: Path) -> list[str]:
    """Where classes that a pipeline file names `module:Class` are looked for, behind what is installed."""
    return [str(Path.cwd()), str(path.parent.resolve())]


def _read(path: Path) -> str:
    try:
        return read_text_at_most(path, MOST_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise FileError(f"cannot read {path}: {reason}") from None


def _read_included(name: str, including: str) -> tuple[str, str]:
    path = Path(including).parent / name
    return str(path), read_text_at_most(path, MOST_BYTES)
