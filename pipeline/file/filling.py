"""The values of a pipeline file, with its variables put in: typed where a type is wanted, elsewhere as text."""

from __future__ import annotations

import re
from typing import Any

from thalweg.pipeline.duration import parse_duration
from thalweg.pipeline.file.source import MAX_CHARACTERS, Source, SourcePlace
from thalweg.pipeline.file.values import Given, guess
from thalweg.pipeline.graph import nearest

_VARIABLE = re.compile(r"(?<!\$)\$\{([^}]*)\}")  # `$${` stands for `${`


class Filling:
    """Knows the variables of a pipeline's files and collects what is wrong with their values.

    `settings`: what was given with `--set`. `literal`: `${…}` has no meaning. `stand_ins`: a variable without a value
    is its name, in angle brackets.
    """

    def __init__(self, settings: dict[str, str], literal: bool, stand_ins: bool = False) -> None:
        self._literal = literal
        self._stand_ins = stand_ins
        self._settings = settings
        self._problems: list[tuple[SourcePlace, str]] = []
        self._put_in = 0
        self._variables: dict[str, Any] = {}
        self._texts: dict[str, str] = {}

    def _declare(self, source: Source) -> None:
        for name, declared in self._mapping(source, "variables").items():
            value = declared.get("default") if isinstance(declared, dict) else declared
            default = ("variables", name, "default") if isinstance(declared, dict) else ("variables", name)
            if default in source.texts:
                self._texts[name] = source.texts[default]
            if name in self._settings:
                value = Given(self._settings[name])
                self._texts.pop(name, None)
            elif value is None and self._stand_ins:
                value = Given(f"<{name}>")
            elif value is None:
                self._wrong(source, ("variables", name), f"variable {name!r} has no value: give it with --set {name}=…")
            self._variables[name] = value

    def _text(self, source: Source, path: tuple[str | int, ...], value: Any) -> str:
        """A value that must be text: the characters as written, not what YAML parses them to."""
        written = self._written(source, path)
        return written if written is not None else "" if value is None else str(self._fill(source, path, value))

    def _written(self, source: Source, path: tuple[str | int, ...]) -> str | None:
        """How the value at a path is written, here or where its variable is declared; None where it is text anyway."""
        value: Any = source.value
        for step in path:
            inside = isinstance(value, list) or (isinstance(value, dict) and step in value)
            value = value[step] if inside else None
        whole = _VARIABLE.fullmatch(value) if isinstance(value, str) and not self._literal else None
        return self._texts.get(whole[1]) if whole else source.texts.get(path)

    def _fill(self, source: Source, path: tuple[str | int, ...], value: Any) -> Any:
        """Put variables in. A text that is nothing but `${name}` takes the variable's type."""
        if isinstance(value, dict):
            return {k: self._fill(source, (*path, k), v) for k, v in value.items()}
        if isinstance(value, list):
            return [self._fill(source, (*path, i), v) for i, v in enumerate(value)]
        if not isinstance(value, str) or self._literal:
            return value

        def replace(match: re.Match[str]) -> str:
            return self._bounded(source, path, self._texts.get(match[1]) or str(self._variable(source, path, match[1])))

        whole = _VARIABLE.fullmatch(value)
        return self._variable(source, path, whole[1]) if whole else _VARIABLE.sub(replace, value).replace("$${", "${")

    def _values(self, source: Source, path: tuple[str | int, ...], value: Any) -> Any:
        """Settings in a place: what they look like, with variables put in."""
        if isinstance(value, dict):
            return {key: self._values(source, (*path, key), inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._values(source, (*path, i), inner) for i, inner in enumerate(value)]
        return guess(self._fill(source, path, value))

    def _bounded(self, source: Source, path: tuple[str | int, ...], text: str) -> str:
        """A text to be put in; nothing once it would be too much: a megabyte can name a megabyte 100,000 times."""
        before, self._put_in = self._put_in, self._put_in + len(text)
        if self._put_in <= MAX_CHARACTERS:
            return text
        if before <= MAX_CHARACTERS:
            self._wrong(source, path, f"variables put in more than {MAX_CHARACTERS} characters")
        return ""

    def _variable(self, source: Source, path: tuple[str | int, ...], name: str) -> Any:
        if name not in self._variables:
            self._wrong(source, path, f"there is no variable {name!r}{nearest(name, self._variables)}")
            return ""
        return "" if self._variables[name] is None else self._variables[name]

    def _duration(self, source: Source, path: tuple[str | int, ...], value: Any) -> int | None:
        if value is None:
            return None
        try:
            return parse_duration(self._text(source, path, value))
        except ValueError as error:
            self._wrong(source, path, f"{path[-1]}: {error}")
            return None

    def _mapping(self, source: Source, key: str) -> dict[str, Any]:
        value = source.value.get(key)
        if value is not None and not isinstance(value, dict):
            self._wrong(source, (key,), f"`{key}` is a {kind(value)}, expected a mapping of names")
        return value if isinstance(value, dict) else {}

    def _list(self, source: Source, key: str) -> list[Any]:
        value = source.value.get(key)
        if value is not None and not isinstance(value, list):
            self._wrong(source, (key,), f"`{key}` is a {kind(value)}, expected a list")
        return value if isinstance(value, list) else []

    def _wrong(self, source: Source, path: tuple[str | int, ...], message: str) -> None:
        self._problems.append((source.place(*path), message))


def kind(value: Any) -> str:
    """What a value is called in a message."""
    names: dict[type, str] = {dict: "mapping", list: "list", str: "text"}
    return names.get(type(value), type(value).__name__)
