"""The table of who may import whom (docs/architecture.md), held against the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "pipeline": set(),
    "models": set(),
    "transports": {"pipeline"},
    "stages": {"pipeline", "models"},
}


def imported_rooms(source: Path) -> set[str]:
    names = [
        name
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]
    return {name.split(".")[1] for name in names if name.startswith("thalweg.")} - {"errors"}  # the tree's root


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_room_imports_only_what_the_table_allows(room: str) -> None:
    imported = {other for source in (ROOT / room).rglob("*.py") for other in imported_rooms(source)}
    assert imported <= MAY_IMPORT[room] | {room}


def imports() -> dict[str, set[str]]:
    """Module of ours → those it imports, for types only included."""
    sources = {
        ".".join(
            part for part in ("thalweg", *path.relative_to(ROOT).with_suffix("").parts) if part != "__init__"
        ): path
        for room in (*MAY_IMPORT, "deploy")
        for path in (ROOT / room).rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for name, path in sources.items():
        named = [
            f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in sources else str(node.module)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        ]
        found[name] = {other for other in named if other in sources and other != name}
    return found


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = imports()
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}, "each of these imports another of these"
