"""YAML text as plain values that remember where they stood, so that every complaint can point at a line.

Limits apply because a pipeline file may be untrusted: a million characters, ten thousand values (counted after aliases
are followed) and a hundred levels. YAML's tags are read as plain scalars; nothing in a file can build an object. Merge
keys (`<<: *common`) take in what another mapping says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from thalweg.pipeline.errors import ThalwegError

MAX_CHARACTERS = 1_000_000
MAX_VALUES = 10_000
MAX_DEPTH = 100
_MERGE = "tag:yaml.org,2002:merge"

Path = tuple[str | int, ...]
"""The way to a value: keys and indices from the top."""


@dataclass(frozen=True, slots=True, order=True)
class SourcePlace:
    """Where something stands; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class SpecError(ThalwegError):
    """A pipeline file that cannot be run: everything that is wrong with it, one line each, with its place.

    `problems` has all; the text has `SHOWN` of them, none longer than `LONGEST`: a stranger's file fills no log.
    """

    SHOWN = 100
    LONGEST = 1_000

    def __init__(self, problems: list[tuple[SourcePlace, str]]) -> None:
        self.problems = sorted(set(problems))
        shown = [f"{place}: {_cut(message, self.LONGEST)}" for place, message in self.problems[: self.SHOWN]]
        more = len(self.problems) - len(shown)
        super().__init__("\n".join([*shown, *([f"and {more} more"] if more else [])]))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest // 2]} … {text[-longest // 2 :]}"


@dataclass(slots=True)
class Source:
    """What a file says. `value`: dicts, lists and scalars; `places`: where each value, or its key, stands.

    `texts`: how a value is written that YAML takes for something else than text, as `no` for false.
    """

    file: str
    value: Any
    places: dict[Path, SourcePlace] = field(default_factory=dict)
    texts: dict[Path, str] = field(default_factory=dict)

    def place(self, *path: str | int) -> SourcePlace:
        """Where the value at `path` stands, or the nearest one above it that stands anywhere."""
        while path not in self.places and path:
            path = path[:-1]
        return self.places.get(path, SourcePlace(self.file, 1, 1))


def read_source(text: str, file: str) -> Source:
    """Parse YAML. Raises SpecError where it is not YAML, breaks a limit or has a key twice."""
    if len(text) > MAX_CHARACTERS:
        raise SpecError(
            [(SourcePlace(file, 1, 1), f"the file has {len(text)} characters, at most {MAX_CHARACTERS} are read")]
        )
    try:
        root = yaml.compose(text, Loader=_Loader)
    except _TooManyError as error:
        place = SourcePlace(file, error.mark.line + 1, error.mark.column + 1)
        raise SpecError([(place, _too_much(f"more than {MAX_VALUES} values"))]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = SourcePlace(file, mark.line + 1, mark.column + 1) if mark else SourcePlace(file, 1, 1)
        problem = error.problem or "this is not YAML"
        hint = "; indent with spaces, not tabs" if "'\\t'" in problem else ""
        raise SpecError([(place, f"this is not YAML: {problem}{hint}")]) from None
    except (yaml.YAMLError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise SpecError([(SourcePlace(file, 1, 1), f"this is not YAML: {reason}")]) from None
    source = Source(file, None)
    reader = _Reader(source)
    source.value = None if root is None else reader.read(root, ())
    if reader.problems:
        raise SpecError(reader.problems)
    return source


class _TooManyError(Exception):
    """A file has more nodes than there may be values; where it goes on."""

    def __init__(self, mark: Any) -> None:  # Any: PyYAML's
        super().__init__()
        self.mark = mark


class _Loader(yaml.SafeLoader):
    """Counts nodes as they are made: each takes a kilobyte, and a file of a megabyte could hold half a million."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """As PyYAML's. Raises _TooManyError."""
        self._nodes += 1
        if self._nodes > 2 * MAX_VALUES + 1:  # with a key to each value
            raise _TooManyError(self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


def _too_much(limit: str) -> str:
    return f"the file has {limit} once its aliases are followed"


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[tuple[SourcePlace, str]] = []
        self._values = self._characters = 0
        self._scalars = yaml.SafeLoader("")

    def read(self, node: yaml.Node, path: Path) -> Any:
        self.source.places.setdefault(path, self._place(node))
        self._count(node, len(path))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
        try:
            value = self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError):
            value = node.value
        if not isinstance(value, str | None) and isinstance(node, yaml.ScalarNode) and node.style is None:
            self.source.texts[path] = node.value
        return value

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append((self._place(key_node), "a key is a plain word here, not a list or a mapping"))
            elif key_node.tag == _MERGE:
                merged.append(value_node)
            elif key_node.value in own:
                self.problems.append((self._place(key_node), f"{key_node.value!r} stands here twice"))
            else:
                own[key_node.value] = key_node, value_node
        for value_node in merged:
            self._merge(value_node, own, len(path) + 1)
        result: dict[str, Any] = {}
        for key, (key_node, value_node) in own.items():
            self.source.places[(*path, key)] = self._place(key_node)
            result[key] = self.read(value_node, (*path, key))
        return result

    def _merge(self, node: yaml.Node, into: dict[str, tuple[yaml.Node, yaml.Node]], depth: int) -> None:
        """`<<: *mapping`, or a list of those: what it says, where nothing before it says something else."""
        self._count(node, depth)
        if isinstance(node, yaml.SequenceNode):
            for one in node.value:
                self._merge(one, into, depth + 1)
            return
        if not isinstance(node, yaml.MappingNode):
            self.problems.append((self._place(node), "`<<` takes in a mapping, or a list of mappings"))
            return
        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != _MERGE:
                self._count(key_node, depth)
                into.setdefault(key_node.value, (key_node, value_node))
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                self._merge(value_node, into, depth + 1)

    def _count(self, node: yaml.Node, depth: int) -> None:
        self._values += 1
        self._characters += len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        limits = (
            (self._values, MAX_VALUES, "values"),
            (depth, MAX_DEPTH, "levels"),
            (self._characters, MAX_CHARACTERS, "characters"),
        )
        over = [f"more than {most} {what}" for found, most, what in limits if found > most]
        if over:
            limit = over[0]
            raise SpecError([(self._place(node), _too_much(limit))])

    def _place(self, node: yaml.Node) -> SourcePlace:
        return SourcePlace(self.source.file, node.start_mark.line + 1, node.start_mark.column + 1)
