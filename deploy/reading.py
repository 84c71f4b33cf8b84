"""Reading pipeline files from the disk, and packing what was read for other processes."""

from __future__ import annotations

import errno
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from thalweg.deploy.cluster.host import Bundle
from thalweg.models.store.bounded import read_text_at_most
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.catalog import find_stage, find_without_running
from thalweg.pipeline.file.dump import dump_document
from thalweg.pipeline.file.spec import Spec, load_spec
from thalweg.transports.codec import CodecError, check_carried

TRUSTED = "THALWEG_TRUSTED"
PACKAGES = "THALWEG_PACKAGES"
"""The environment variable that names a folder of modules that belong to a pipeline, such as its release's wheels."""
MOST_BYTES = 4_000_000
"""Of a pipeline file; a million characters are read of it."""


class FileError(ThalwegError):
    """A pipeline file that cannot be read."""


def read_spec(path: Path, settings: Mapping[str, str], *, trust: bool = True, to_look_at: bool = False) -> Spec:
    """Read and check a pipeline file. Raises FileError, SpecError.

    `to_look_at`: variables need no values, it will not run.

    With `trust` modules beside the file, or here, can be named in it, and are imported: that runs them. Without it
    nothing of the file runs, unless it lies in a folder that `$THALWEG_TRUSTED` lists; of stages named `module:Class`
    only what the file itself says of them is checked then (`Spec.unchecked`).
    """
    if trust or _is_trusted(path):
        for folder in module_folders(path):
            if folder not in sys.path:
                sys.path.append(folder)
        find = find_stage
    else:
        find = find_without_running
    text = _read(path)
    return load_spec(
        text,
        str(path),
        settings=settings,
        read_file=_read_included,
        find=find,
        carried=carried_problem,
        stand_ins=to_look_at,
    )


def carried_problem(payload: type) -> str | None:
    """What keeps payloads of this type in their process, if anything does."""
    try:
        check_carried(payload)
    except CodecError as error:
        return str(error)
    return None


def unchecked_line(spec: Spec) -> str:
    """Which stages were not checked, and how they can be; nothing where all were."""
    if not spec.unchecked:
        return ""
    names = ", ".join(f"{name} ({use})" for name, use in spec.unchecked.items())
    return f"not checked: {names}; their code was not run. If you trust it, --trust imports and checks them"


def bundle_of(path: Path, settings: Mapping[str, str], *, traced: bool) -> Bundle:
    """Everything another process needs to read the same pipeline file. Raises as `read_spec`."""
    return pack(read_spec(path, settings), str(path), module_folders(path), traced=traced)


def staying(spec: Spec) -> Spec:
    """The same spec for an unattended run: parameters that were not given take the defaults of `staying` of their stage
    class.
    """
    stages = dict(spec.document.get("stages", {}))
    for name, vertex in spec.graph.stages.items():
        if name in stages:
            stages[name] = dict(getattr(vertex.info.cls, "staying", {})) | stages[name]
    return replace(spec, document=spec.document | {"stages": stages})


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
    packages = os.environ.get(PACKAGES, "")
    return [str(Path.cwd()), str(path.parent.resolve()), *([packages] if packages else [])]


def _is_trusted(path: Path) -> bool:
    """Whether a file lies in, or below, a folder of `$THALWEG_TRUSTED`, a list as `$PATH`."""
    folders = [Path(folder) for folder in os.environ.get(TRUSTED, "").split(os.pathsep) if folder]
    real = path.resolve()
    return any(folder.is_absolute() and real.is_relative_to(folder.resolve()) for folder in folders)


def _read(path: Path) -> str:
    try:
        return read_text_at_most(path, MOST_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = error.strerror if isinstance(error, OSError) else error
        if isinstance(error, OSError) and error.errno == errno.EILSEQ and _is_recording(path):
            reason = f"it is a recording, expected a pipeline file. `thalweg replay {path} FILE` plays it into one"
        raise FileError(f"cannot read {path}: {reason}") from None


def _is_recording(path: Path) -> bool:
    from thalweg.transports.recording import MAGIC  # numpy and more, for an error alone

    with suppress(OSError), path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC
    return False


def _read_included(name: str, including: str) -> tuple[str, str]:
    path = Path(including).parent / name
    return str(path), read_text_at_most(path, MOST_BYTES)
