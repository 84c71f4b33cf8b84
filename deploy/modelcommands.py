"""`thalweg models …` in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from thalweg.models import ModelStore


def list_models() -> None:
    """A table of all models."""
    store = ModelStore()
    table = Table(box=None, pad_edge=False)
    for column in ("model", "licence", "size", "here", ""):
        table.add_column(column, justify="right" if column == "size" else "left")
    for held in store.list():
        model = held.model
        table.add_row(
            model.name, model.licence, f"{model.size / 1e6:.1f} MB", "yes" if held.complete else "no", model.summary
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(f"[dim]kept in {store.root}[/]", soft_wrap=True)


def pull_models(names: Sequence[str]) -> None:
    """Fetch with a progress bar. Raises ModelError."""
    store = ModelStore()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for name in names or store.registry.models:
            for file in store.registry[name].files:
                task = progress.add_task(file.name, total=file.size)
                store.path(name, file.name, lambda done, _, task=task: progress.update(task, completed=done))  # type: ignore[misc]
                progress.update(task, completed=file.size)


def verify_models(names: Sequence[str]) -> int:
    """Check what is here, or the named models; returns 1 where something is missing or wrong."""
    store = ModelStore()
    wanted = names or [held.model.name for held in store.list() if held.present]
    wrong = 0
    for name in wanted:
        problems = store.verify(name)
        print(f"{name}: {'as it should be' if not problems else '; '.join(problems)}")
        wrong += bool(problems)
    if not wanted:
        print("no model is here yet: `thalweg models pull` fetches them")
    return int(wrong > 0)
