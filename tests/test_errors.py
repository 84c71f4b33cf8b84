"""The tree of errors in `thalweg.errors`, held against the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from thalweg import errors

ROOT = Path(__file__).parent.parent
ROOMS = ("pipeline", "models", "transports", "stages", "deploy")
OWN = ("bench", "recipes")  # programs of their own, whose errors nobody else sees


def raised_on_purpose() -> dict[str, str]:
    """Every class of the rooms that is below ThalwegError → its module, from the source."""
    below = {"ThalwegError"}
    classes: dict[str, tuple[str, list[str]]] = {}
    for source in (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))):
        parts = source.relative_to(ROOT).with_suffix("").parts
        if set(parts) & set(OWN) and parts[-1] != "__init__":
            continue
        module = ".".join(["thalweg", *(part for part in parts if part != "__init__")])
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name] = module, [base.id for base in node.bases if isinstance(base, ast.Name)]
    while more := {name for name, (_, bases) in classes.items() if set(bases) & below} - below:
        below |= more
    return {name: classes[name][0] for name in below - {"ThalwegError"}}


def test_the_table_of_errors_names_every_error_and_where_it_is() -> None:
    listed = {name: module for family in errors.FAMILIES.values() for name, module in family.items()}
    assert listed == raised_on_purpose()


@pytest.mark.parametrize("name", ["SpecError", "GraphError", "StartError", "ModelError", "RunError"])
def test_errors_can_be_imported_from_one_place_and_are_thalweg_errors(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.ThalwegError)
