"""One way to the terminal: nothing prints, logs or draws tables around `stages.io.terminal` and `deploy.console`.

What goes round them would show a stranger's text as it is: its escape sequences are obeyed, its brackets are markup.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TERMINAL, CONSOLE = "stages/io/terminal.py", "deploy/console.py"
ASIDE = "stages/io/aside.py"  # writes for the terminal what has been through `printable` already
APART = ("deploy/bench/", "models/recipes/", "models/store/bundled_entry.py", "models/store/confined.py")
"""Programs of our own measurements and recipes: they print numbers and talk to their parents over pipes."""

TO_LOG = {"logging.basicConfig", "logging.StreamHandler", "logging.FileHandler", "logging.Formatter"}
TO_PRINT = {
    "print", "click.echo", "click.secho", "click.echo_via_pager", "sys.stdout.write", "sys.stderr.write",
    "sys.stdout.buffer.write", "traceback.print_exc", "traceback.print_exception", "pprint.pprint", "builtins.print",
    "sys.stdout.writelines", "sys.stderr.writelines",
}  # fmt: skip
MARKUP = {"Text.from_markup", "Text.from_ansi", "rich.print", "rich.get_console", "rich.markup.render"}


def sources() -> Iterator[str]:
    for room in ("pipeline", "models", "transports", "stages", "deploy"):
        for path in sorted((ROOT / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(APART):
                yield name


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression, or nothing."""
    if isinstance(node, ast.Name):
        return node.id
    inner = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{inner}.{node.attr}" if inner and isinstance(node, ast.Attribute) else ""


def ways_round(source: str) -> list[str]:
    """What in a module goes round the one way, each with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rich":
            taken = {alias.name for alias in node.names}
            if taken & {"Console", "print", "get_console", "RichHandler", "Prompt"} or node.module == "rich.markup":
                found.append(f"{node.lineno}: imports {', '.join(taken)} of rich; use thalweg.deploy.console")
        if isinstance(node, ast.ImportFrom) and "write" in {alias.name for alias in node.names}:
            found.append(f"{node.lineno}: takes `write`, which prints as it is; use `say`")
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            if called in TO_PRINT:
                found.append(f"{node.lineno}: {called}; use `say` of thalweg.stages.io.terminal")
            if called in TO_LOG:
                found.append(f"{node.lineno}: {called}; use `log_to_stderr` of thalweg.stages.io.terminal")
            if called in MARKUP:
                found.append(f"{node.lineno}: {called} reads markup")
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            markup = keywords.get("markup")
            if called == "TextColumn" and not (isinstance(markup, ast.Constant) and markup.value is False):
                found.append(f"{node.lineno}: TextColumn reads markup unless told not to")
            elif called != "TextColumn" and markup is not None:
                found.append(f"{node.lineno}: asks for markup")
            if called.endswith(".set_title") and "parse_math" not in keywords:
                found.append(f"{node.lineno}: a title reads $…$ as mathematics unless told not to")
    return found


@pytest.mark.parametrize("name", [name for name in sources() if name not in (TERMINAL, CONSOLE, ASIDE)])
def test_module_prints_only_through_the_one_place(name: str) -> None:
    assert ways_round((ROOT / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "print(x)",
        "click.echo(x)",
        "import sys\nsys.stderr.write(x)",
        "from rich.console import Console",
        "from rich import print",
        "import logging\nlogging.basicConfig()",
        "from rich.text import Text\nText.from_markup(x)",
        "console.print(x, markup=True)",
        "from thalweg.stages.io.terminal import write",
        "TextColumn('{task.description}')",
        "axes.set_title(x)",
    ],
)
def test_each_way_round_is_noticed(source: str) -> None:
    assert ways_round(source)
