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
    """Where a file can be had: `kind` is one of SOURCE_KINDS, `where` as the head of registry.yaml explains."""

    kind: str
    where: str


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
    """A model of the registry. `licence` is an SPDX identifier and holds for the weights."""

    name: str
    summary: str
    licence: str
    files: tuple[ModelFile, ...]

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
        text = path.read_text() if path else files("thalweg.models.store").joinpath("registry.yaml").read_text()
        try:
            return cls({name: _model(name, entry) for name, entry in yaml.safe_load(text).items()})
        except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{path or 'the built-in registry'} is not a model registry: {error!r}") from error


def _model(name: str, entry: Any) -> Model:  # Any: as YAML gave it
    model = Model(
        name=name,
        summary=entry["summary"],
        licence=entry["licence"],
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


def _source(kind: str, where: str) -> Source:
    if kind not in SOURCE_KINDS:
        raise ValueError(f"source kind {kind!r}, expected one of {', '.join(SOURCE_KINDS)}")
    return Source(kind, where)
