"""What a pipeline's models want of this machine, told before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from thalweg.models.store.fitting import advice, free_memory, usable_cores
from thalweg.models.store.registry import Model
from thalweg.models.store.store import ModelStore
from thalweg.pipeline.file.spec import Spec
from thalweg.stages.io.terminal import say


def tell_fit(spec: Spec, cores: float | None = None, memory: int | None = None) -> None:
    """Say on standard error which smaller model this machine would be better off with; nothing where all is well."""
    models = models_of(spec)
    cores = usable_cores() if cores is None else cores
    memory = free_memory() if memory is None else memory
    for name, why in advice(models, cores=cores, memory=memory):
        smaller = next(model.smaller for model in models if model.name == name)
        variable = next((key for key, value in spec.variables.items() if value == name), None)
        remedy = f"--set {variable}={smaller}" if variable else f"`model: {smaller}`"
        say(f"{name} may be too large for this machine ({why}): {remedy} is smaller", err=True)


def models_of(spec: Spec) -> list[Model]:
    """Models of the registry that the stages of a pipeline name, each once."""
    known = ModelStore().registry.models
    stages = spec.document.get("stages", {})
    return [known[name] for name in dict.fromkeys(_texts(stages)) if name in known]


def _texts(value: Any) -> Iterator[str]:  # Any: what a file may hold
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value
