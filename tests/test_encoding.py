"""No text file and no pipe is read or written by the locale: a Latin-1 one made other speech of the same sentence.

Ruff's PLW1514 finds what it can tell to be a path; this finds the rest, in the code that users run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODE = re.compile(r"[rwax][+t]*")
TEXT = ("text", "universal_newlines")


def by_locale(source: str) -> Iterator[str]:
    """Calls that leave the encoding to the locale, each with its line."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        of_pyav = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "av"
        if "encoding" in keywords or None in keywords or of_pyav:
            continue
        strings = [a.value for a in [*node.args, *keywords.values()] if isinstance(a, ast.Constant)]
        mode = next((s for s in strings if isinstance(s, str) and MODE.fullmatch(s)), None)
        asks = name in ("read_text", "write_text") and len(node.args) < (1 if name == "read_text" else 2)
        asks = asks or (name in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile") and mode is not None)
        asks = asks or (isinstance(node.func, ast.Name) and name == "open" and len(node.args) == 1 and not keywords)
        asks = asks or any(isinstance(v := keywords.get(k), ast.Constant) and v.value is True for k in TEXT)
        if asks:
            yield f"{node.lineno}: {name} without encoding="


@pytest.mark.parametrize("room", ["pipeline", "models", "transports", "stages", "deploy", "thalweg"])
def test_every_text_file_and_pipe_names_its_encoding(room: str) -> None:
    files = [path for path in sorted((ROOT / room).rglob("*.py")) if ".venv" not in path.parts]
    found = [f"{path.relative_to(ROOT)}:{line}" for path in files for line in by_locale(path.read_text("utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "path.read_text()",
        'path.read_text(errors="replace")',
        "path.write_text(x)",
        "open(x)",
        'open(x, "w")',
        'path.open("a")',
        'path.open(mode="r+")',
        "subprocess.run(x, text=True)",
        'os.fdopen(x, "w")',
    ],
)
def test_each_way_of_leaving_it_to_the_locale_is_noticed(source: str) -> None:
    assert list(by_locale(source))


@pytest.mark.parametrize(
    "source", ['path.open("rb")', 'open(x, "wb")', "engine.open(x)", 'path.read_text("utf-8")', "run(x, text=text)"]
)
def test_bytes_and_named_encodings_are_left_alone(source: str) -> None:
    assert list(by_locale(source)) == []
