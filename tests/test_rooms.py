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
