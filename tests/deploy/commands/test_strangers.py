"""Packages of other people whose stages cannot be used: the rest can, and each is named with its reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.real

MODULE = """
from typing import Annotated, Callable
from thalweg import Token


class Good:
    outputs = {"token": Token}

    async def run(self, ctx):
        pass


class NoPorts:
    pass


class Odd(Good):
    def __init__(self, call: Callable[[object], object] = print):
        pass
"""
POINTS = """[thalweg.stages]
acme.good = acme:Good
acme.gone = acme_gone:Stage
acme.raises = acme_raises:Stage
acme.ends = acme_ends:Stage
acme.portless = acme:NoPorts
acme.odd = acme:Odd
acme.nonsense = what is this
"""
BROKEN = {"acme.gone", "acme.raises", "acme.ends", "acme.portless", "acme.odd", "acme.nonsense"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A path on which `acme` is installed."""
    folder = tmp_path_factory.mktemp("strangers")
    (folder / "acme.py").write_text(MODULE, encoding="utf-8")
    (folder / "acme_raises.py").write_text(
        "raise RuntimeError('no \\x1b[2J device\\n' + 'x' * 5000)\n", encoding="utf-8"
    )
    (folder / "acme_ends.py").write_text("import sys; sys.exit('I will not be imported')\n", encoding="utf-8")
    info = folder / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(POINTS, encoding="utf-8")
    return os.pathsep.join([str(folder), *(entry for entry in sys.path if entry)])


def thalweg(path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "thalweg.deploy", *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_all_stages_are_listed_and_those_that_cannot_be_used_say_why(path: str) -> None:
    done = thalweg(path, "stages")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and any(line.startswith("audio.file ") for line in lines), done.stderr
    reasons = {line.split()[0]: line for line in lines if "cannot be used" in line}
    assert set(reasons) == BROKEN
    assert "No module named 'acme_gone'" in reasons["acme.gone"] and "no \\x1b[2J device" in reasons["acme.raises"]
    assert all(len(line) < 1_200 for line in lines) and "\x1b[2J" not in done.stdout


def test_listed_as_json_each_is_an_entry(path: str) -> None:
    entries = {entry["use"]: entry for entry in json.loads(thalweg(path, "stages", "--json").stdout)}
    assert {use for use, entry in entries.items() if "broken" in entry} == BROKEN
    assert entries["acme.good"]["outputs"]


def test_the_schema_has_the_rest_and_doctor_names_the_broken(path: str) -> None:
    schema = thalweg(path, "schema")
    assert schema.returncode == 0 and "acme.good" in schema.stdout and "acme.gone" not in schema.stdout, schema.stderr
    doctor = thalweg(path, "doctor").stdout
    assert all(f"'{name}'" in doctor or name in doctor for name in BROKEN)
