"""The Python in the documentation runs, and what it names is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from thalweg.deploy.__main__ import cli

DOCS = Path(__file__).parent.parent / "docs"
FIRST = DOCS / "first-programs.md"
PAGES = [path for path in sorted(DOCS.glob("*.md")) if path != FIRST and "```python" in path.read_text()]
COMMANDS = [
    command.partition("\n")
    for block in re.findall(r"```\n\$ (.*?)```", FIRST.read_text(encoding="utf-8"), re.DOTALL)
    for command in block.split("\n$ ")
]


@pytest.mark.real
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_on_the_page_runs_from_top_to_bottom(page: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile("\n".join(blocks), str(page), "exec", dont_inherit=True), {"__name__": page.stem})


@pytest.mark.real
@pytest.mark.parametrize(("command", "_", "output"), COMMANDS)
def test_the_first_programs_print_what_the_page_says(command: str, _: str, output: str, tmp_path: Path) -> None:
    for name, text in re.findall(
        r"```(?:python|yaml)\n# (\S+)\n(.*?)```", FIRST.read_text(encoding="utf-8"), re.DOTALL
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
    program, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, *(["-m", "thalweg.deploy"] if program == "thalweg" else []), *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{DOCS.parent}{os.pathsep}{tmp_path}"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n".join(line.rstrip() for line in done.stdout.splitlines()).endswith(output.rstrip())


def test_every_link_between_the_pages_leads_somewhere() -> None:
    root = DOCS.parent
    for page in [*DOCS.rglob("*.md"), *root.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_command_that_is_named_is_there() -> None:
    root = DOCS.parent
    code = [
        path
        for room in ("deploy", "models", "pipeline", "stages", "transports")
        for path in (root / room).rglob("*.py")
    ]
    for page in [*DOCS.rglob("*.md"), root / "README.md", root / "CONTRIBUTING.md", *code]:
        for named in re.findall(r"(?:`|^ *)thalweg((?: [a-z]+)+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            command: click.Command = cli
            for word in named.split():
                if not isinstance(command, click.Group):
                    break
                assert word in command.commands, f"{page.name}: thalweg{named}"
                command = command.commands[word]


def test_each_decision_has_a_number_of_its_own() -> None:
    numbers = [page.name.partition("-")[0] for page in (DOCS / "decisions").glob("[0-9]*.md")]
    assert sorted(numbers) == sorted(set(numbers))
