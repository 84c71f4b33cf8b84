"""What `thalweg new` offers."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def new() -> None:
    """Create a working stage, language-model backend or pipeline of your own: code, and a test that passes."""


@new.command("stage")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["transform", "source", "text", "sink", "join"]),
    default="transform",
    show_default=True,
    help="Kind of stage: transform of audio, source, transform of text, sink or join.",
)
def new_stage(name: str, kind: str) -> None:
    """Write NAME.py with a stage and test_NAME.py with its test."""
    from thalweg.deploy.commands.scaffolding.scaffold import write_stage

    write_stage(name, Path.cwd(), kind)


@new.command("backend")
@click.argument("name")
def new_backend(name: str) -> None:
    """Write NAME.py with a language-model backend and test_NAME.py with its test."""
    from thalweg.deploy.commands.scaffolding.scaffold import write_backend

    write_backend(name, Path.cwd())


@new.command("pipeline")
@click.argument("name")
def new_pipeline(name: str) -> None:
    """Write NAME.yaml, a pipeline that runs, and test_NAME.py."""
    from thalweg.deploy.commands.scaffolding.scaffold import write_pipeline

    write_pipeline(name, Path.cwd())
