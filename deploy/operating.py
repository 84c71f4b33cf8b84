"""The commands of those who operate pipelines: `plan`, and those for deployments that stay."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

FILE = click.Path(dir_okay=False, path_type=Path)
SET = click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Value of a variable of the file.")


def settings_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """`("a=1", "b=x")` → `{"a": "1", "b": "x"}`."""
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r}, expected name=value", param_hint="--set")
        settings[name] = value
    return settings


@click.command()
@click.argument("file", type=FILE)
@SET
@click.option("--svg", type=FILE, help="Draw it, one lane per worker.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def plan(file: Path, pairs: tuple[str, ...], svg: Path | None, as_json: bool) -> None:
    """Show where a pipeline file's stages would run and what would carry each edge; nothing is started.

    \b
    An edge inside a worker is memory, between workers on one host shared memory, between hosts gRPC.
    Move a stage with one line under `placement:`; choose a transport under `transports:`.
    """
    from rich.console import Console

    from thalweg.deploy.planpicture import plan_svg
    from thalweg.deploy.plantext import plan_entry, print_plan
    from thalweg.deploy.report import write_whole
    from thalweg.deploy.run import read_spec

    spec = read_spec(file, settings_of(pairs))
    if svg is not None:
        write_whole(svg, plan_svg(spec))
    if as_json:
        click.echo(json.dumps(plan_entry(spec), indent=2))
    else:
        print_plan(spec, Console(highlight=False, width=None if sys.stdout.isatty() else 160))


COMMANDS = (plan,)
