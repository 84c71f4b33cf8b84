"""Finding stage classes by the names that pipeline files use.

Names come from the entry point group `thalweg.stages`, ours and third-party ones alike; any other class is named
`package.module:Class`.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from thalweg.pipeline.file.unread import unread
from thalweg.pipeline.graph import nearest
from thalweg.pipeline.stage import StageError, StageInfo, describe
from thalweg.pipeline.text import printable

GROUP = "thalweg.stages"
_LONGEST = 300
_CLASS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@cache
def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def stage_names() -> list[str]:
    """Every registered name, sorted."""
    return sorted(_registered())


def installed_stages() -> tuple[list[StageInfo], dict[str, str]]:
    """Every registered stage that can be used, sorted by name, and of the others, name → why not.

    A third-party stage that cannot be imported does not prevent the use of the others.
    """
    found, broken = [], {}
    for name in stage_names():
        try:
            info = find_stage(name)
            info.parameters.model_json_schema()  # what lists and schemas are made of
            found.append(info)
        except StageError as error:
            broken[name] = str(error)
        except Exception as error:  # pydantic may raise anything on third-party annotations
            broken[name] = f"stage {name!r} has parameters that cannot be described: {type(error).__name__}: {error}"
    return found, {name: printable(why, _LONGEST) for name, why in broken.items()}


def registered_name(cls: type) -> str | None:
    """The name that a class is registered by, if it is."""
    value = f"{cls.__module__}:{cls.__qualname__}"
    return next((name for name, point in _registered().items() if point.value == value), None)


def find_stage(use: str) -> StageInfo:
    """The stage that goes by `use`. Raises StageError where there is none, or it cannot be imported.

    Importing runs code, so the name must come from a trusted source.
    """
    module_name, _, class_name = _checked(use).partition(":")
    try:
        found = importlib.import_module(module_name)
        for part in class_name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise StageError(f"stage {use!r} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:  # importing a module may raise anything
        raise StageError(f"stage {use!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not isinstance(found, type):
        raise StageError(f"{use!r} names {found!r}, expected a class")
    return describe(found, use)


def find_without_running(use: str) -> StageInfo:
    """As `find_stage`, of what is installed; a class named `package.module:Class` is not imported (`file.unread`)."""
    return find_stage(use) if use in _registered() else unread(_checked(use))


def _checked(use: str) -> str:
    """`module:Class` of a name. Raises StageError where it can be none."""
    points = _registered()
    if use in points:
        return points[use].value
    if ":" not in use:
        raise StageError(
            f"there is no stage {use!r}{nearest(use, points)}; `thalweg stages` lists them; "
            "a class of your own is named package.module:Class"
        )
    if not _CLASS.fullmatch(use):
        raise StageError(f"{use!r} names no class: expected package.module:Class")
    return use
