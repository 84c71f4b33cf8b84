"""What a text becomes: a value of the type that it lands in.

YAML guesses: `no` is false, `12:30:45` a number to the base of 60, `007` seven, `2024-05-01` a date, and ` #` begins a
comment. In a name, a path or a sentence each of these is wrong. So the parameter decides and not the look of a value:

- What `--set` gives is text. A parameter of text takes it as it is, to the last character; one of numbers, lengths of
  time or true and false reads it as such; one of lists or mappings reads it as YAML (`--set "words=[yes, no]"`).
- What stands in a file without quotes is what YAML takes it for, where the parameter takes that, and else the text as
  it was written: `path: 2024` is a file called 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from thalweg.pipeline.file.source import Path, Source, SpecError, read_source
from thalweg.pipeline.stage import StageInfo

_WANTS_TEXT = ("string_type", "path_type", "literal_error", "enum")
"""Of pydantic's kinds of errors those that say: this should have been a text."""


class Given(str):
    """A text that was given with `--set`, as it was given."""


def plain(value: Any) -> Any:  # Any: what a file may hold
    """The same without `Given`."""
    if isinstance(value, Given):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def guess(value: Any) -> Any:  # Any: as above
    """What was given where nothing says which type is wanted: a number, true or false where it looks like one."""
    if not isinstance(value, Given):
        return value
    if value in ("true", "false"):
        return value == "true"
    for read in (int, float):
        try:
            return read(value) if value.strip("+-")[:1].isdigit() else str(value)
        except ValueError:
            continue
    return str(value)


def fit(info: StageInfo, settings: Mapping[str, Any], written: Callable[[Path], str | None]) -> dict[str, Any]:
    """`settings` of a stage as its parameters take them, with `Given` texts read by the type they land in.

    `written`: how the value at a path is written in the file, None where it is a text or not there. Raises pydantic's
    ValidationError where they cannot be taken in any way.
    """
    fields = info.parameters.model_fields
    untyped = {name for name in settings if name in fields and fields[name].annotation is Any}
    taken = {name: guess(value) if name in untyped else plain(value) for name, value in settings.items()}
    read: dict[Path, Source] = {}
    tried: set[Path] = set()

    def read_again(path: Path, kind: str) -> bool:
        value = _at(taken, path)
        if isinstance(_at(settings, path), Given):
            other: Any = _structure(value, read, path)
        elif isinstance(value, str | list | dict) or value is None or kind not in _WANTS_TEXT:
            other = None
        else:
            of = next((given for given in read if path[: len(given)] == given), None)
            other = written(path) if of is None else read[of].texts.get(path[len(of) :])
        if other is not None:
            _at(taken, path[:-1])[path[-1]] = other
        return other is not None

    while True:
        try:
            info.check(taken)
            return taken
        except ValidationError as error:
            wrong = {_reach(taken, problem["loc"]): problem["type"] for problem in error.errors()}
            fresh = [path for path in wrong if path not in tried and path]
            tried.update(fresh)
            if not sum(read_again(path, wrong[path]) for path in fresh):  # each of them, not only the first
                raise


def _reach(settings: Mapping[str, Any], location: tuple[str | int, ...]) -> Path:
    """As much of where pydantic says that something is wrong as leads to a value; the rest names types it tried."""
    path: Path = ()
    value: Any = settings
    for step in location:
        inside = step in value if isinstance(value, Mapping) else isinstance(value, list) and isinstance(step, int)
        if not inside:
            break
        path, value = (*path, step), value[step]
    return path


def _at(settings: Any, path: Path) -> Any:
    """The value at a path, None where there is none."""
    for step in path:
        try:
            settings = settings[step]
        except (KeyError, IndexError, TypeError):
            return None
    return settings


def _structure(text: str, read: dict[Path, Source], path: Path) -> Any:
    """A text that no parameter of text takes, read as YAML: a list, a mapping or a number, else None."""
    try:
        read[path] = source = read_source(text, "--set")
    except SpecError:
        return None
    return source.value if type(source.value) in (list, dict, int, float) else None
