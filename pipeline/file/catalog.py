"""Finding stage classes by the names that pipeline files use.

Names come from the entry point group `thalweg.stages`, ours and everybody else's alike; any other class is
named `package.module:Class`.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from thalweg.pipeline.graph import nearest
from thalweg.pipeline.stage import StageError, StageInfo, describe

GROUP = "thalweg.stages"


@cache
def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def stage_names() -> list[str]:
    """Every registered name, sorted."""
    return sorted(_registered())


def registered_name(cls: type) -> str | None:
    """The name that a class is registered by, if it is."""
    value = f"{cls.__module__}:{cls.__qualname__}"
    return next((name for name, point in _registered().items() if point.value == value), None)


def find_stage(use: str) -> StageInfo:
    """The stage that goes by `use`. Raises StageError where there is none, or it cannot be imported."""
    points = _registered()
    if use not in points and ":" not in use:
        raise StageError(
            f"there is no stage {use!r}{nearest(use, points)}; `thalweg stages` lists them; "
            "a class of your own is named package.module:Class"
        )
    module_name, _, class_name = (points[use].value if use in points else use).partition(":")
    try:
        found = importlib.import_module(module_name)
        for part in class_name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise StageError(f"stage {use!r} cannot be imported: {error}") from error
    if not isinstance(found, type):
        raise StageError(f"{use!r} names {found!r}, expected a class")
    return describe(found, use)
