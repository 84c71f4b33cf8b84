"""The list of models: who made them, what may be done with them, where they come from."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from thalweg.models.errors import ModelError

BUNDLED = "bundled"
SOURCE_KINDS = (BUNDLED, "pypi", "huggingface", "url", "path")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file can be had: `kind` is one of SOURCE_KINDS, `where` as the head of registry.yaml explains.

    `then`: the file comes in parts, of which `where` is the first.
    """

    kind: str
    where: str
    then: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """All parts in order."""
        return (self.where, *self.then)

    def __str__(self) -> str:
        more = f" and {len(self.then)} more part{'s' * (len(self.then) > 1)}" if self.then else ""
        return f"{self.kind} {self.where}{more}"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model; `size` in bytes, `sha256` in hexadecimal."""

    name: str
    size: int
    sha256: str
    sources: tuple[Source, ...]

    @property
    def bundled(self) -> str | None:
        """The folder below `thalweg/models` that it lies in, if it comes with the package."""
        return next((source.where for source in self.sources if source.kind == BUNDLED), None)


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the registry. `licence` is an SPDX identifier and holds for the weights.

    `memory`: bytes that it takes at work, 0 where it was not measured; `extra`: of ours, which it needs, if any;
    `costs`: what it takes of a processor, in a few words; `smaller`: one that does the same on a smaller machine.
    """

    name: str
    summary: str
    licence: str
    files: tuple[ModelFile, ...]
    memory: int = 0
    extra: str = ""
    costs: str = ""
    smaller: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def bundled(self) -> bool:
        """Whether it comes with the package."""
        return any(file.bundled for file in self.files)


class Registry:
    """Models by name."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self.models = dict(models)

    def __getitem__(self, name: str) -> Model:
        if name not in self.models:
            near = difflib.get_close_matches(name, self.models, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "`thalweg models list` shows all"
            raise ModelError(f"there is no model {name!r}; {hint}")
        return self.models[name]

    @classmethod
    def load(cls, path: Path | None = None) -> Registry:
        """Read a registry file, the built-in one by default. Raises ModelError where it is not one."""
        text = (
            path.read_text(encoding="utf-8")
            if path
            else files("thalweg.models.store").joinpath("registry.yaml").read_text(encoding="utf-8")
        )
        try:
            return cls({name: _model(name, entry) for name, entry in yaml.safe_load(text).items()})
        except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{path or 'the built-in registry'} is not a model registry: {error!r}") from error


def _model(name: str, entry: Any) -> Model:  # Any: as YAML gave it
    model = Model(
        name=name,
        summary=entry["summary"],
        licence=entry["licence"],
        memory=int(entry.get("memory_mb", 0)) * 1_000_000,
        extra=entry.get("extra", ""),
        costs=entry.get("costs", ""),
        smaller=entry.get("smaller", ""),
        files=tuple(
            ModelFile(
                name=file_name,
                size=int(file["size"]),
                sha256=file["sha256"],
                sources=tuple(_source(kind, where) for given in file["sources"] for kind, where in given.items()),
            )
            for file_name, file in entry["files"].items()
        ),
    )
    if len({file.bundled for file in model.files}) > 1:
        raise ValueError(f"the files of {name} are bundled in more than one folder, or only some of them are")
    return model


def _source(kind: str, where: str | list[str]) -> Source:
    if kind not in SOURCE_KINDS:
        raise ValueError(f"source kind {kind!r}, expected one of {', '.join(SOURCE_KINDS)}")
    parts = [where] if isinstance(where, str) else where
    if not parts or not all(isinstance(part, str) for part in parts) or (kind == BUNDLED and len(parts) > 1):
        raise ValueError(f"source {kind}: {where!r}, expected a text, or a list of texts for a file in parts")
    return Source(kind, parts[0], tuple(parts[1:]))
