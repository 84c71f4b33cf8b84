"""A digest of the source code of stages, so that a run joins a shared process only where that has the same code.

Followed are imports, from the modules of the stages on, as far as they lie in the folders of the pipeline file
(`Bundle.paths`) or in the package of such a module. Installed packages and imports made at run time are not.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from thalweg.models.store.bounded import read_at_most

OURS = "thalweg"
MOST_FILES = 1000


def code_digest(modules: Iterable[str], folders: Sequence[str]) -> str:
    """Of these modules and what they import; modules of Thalweg, which has a version, are left out. Reads files."""
    roots = {package: root for name in modules for package, root in _root(name)}
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting and len(found) < MOST_FILES:
        name = waiting.pop()
        package = name.partition(".")[0]
        if name in found or package == OURS:
            continue
        path = _file(name, [*folders, *roots.get(package, ())])
        if path is None:
            continue
        with suppress(OSError):  # whether it can be imported is for the process to say
            found[name], imports = _read(path, path.name == "__init__.py", name, path.stat().st_mtime_ns)
            waiting += imports
    told = "\n".join(f"{name} {digest}" for name, digest in sorted(found.items()))
    return hashlib.sha256(told.encode()).hexdigest()


def _root(name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Where the package of a loaded module lies."""
    package = name.partition(".")[0]
    file = getattr(sys.modules.get(package), "__file__", None)
    if file:
        path = Path(file)
        yield package, (str(path.parent.parent if path.name == "__init__.py" else path.parent),)


def _file(name: str, folders: Iterable[str]) -> Path | None:
    """The source file of a module, where it has one in one of these folders."""
    inside = Path(*name.split("."))
    for folder in folders:
        for path in (Path(folder, inside, "__init__.py"), Path(folder, inside).with_suffix(".py")):
            if path.is_file():
                return path
    return None


@lru_cache(maxsize=MOST_FILES)
def _read(path: Path, is_package: bool, name: str, changed_ns: int) -> tuple[str, tuple[str, ...]]:
    """The digest of a file, and what it imports; `changed_ns`: when it was written."""
    text = read_at_most(path)
    digest = hashlib.sha256(text).hexdigest()
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return digest, ()
    parts = name.split(".")
    above = [".".join(parts[:depth]) for depth in range(1, len(parts))]
    package = parts if is_package else parts[:-1]
    return digest, (*above, *(one for node in ast.walk(tree) for one in _imports(node, package)))


def _imports(node: ast.AST, package: Sequence[str]) -> Iterator[str]:
    """The modules that a statement may import: of `from a import b`, both `a` and `a.b`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        before = package[: len(package) - node.level + 1] if node.level else ()
        base = ".".join((*before, *([node.module] if node.module else [])))
        if base:
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
