"""`thalweg models …` in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from thalweg.deploy.console import Console
from thalweg.models import ModelStore
from thalweg.models.errors import ModelError
from thalweg.models.store.fetching.hub import checkpoints, local_checkpoint, pinned, pull_checkpoint
from thalweg.pipeline.duration import MS
from thalweg.stages.io.terminal import say


def list_models() -> None:
    """A table of all models."""
    store = ModelStore()
    table = Table(box=None, pad_edge=False)
    for column in ("model", "licence", "size", "memory", "here", "", "needs", "costs"):
        right = column in ("size", "memory")
        table.add_column(column, justify="right" if right else "left", no_wrap=right or column == "model")
    for held in store.list():
        model = held.model
        here = "bundled" if model.bundled and held.complete else "yes" if held.complete else "no"
        memory = f"{model.memory / 1e6:.0f} MB" if model.memory else ""
        extra = f"thalweg[{model.extra}]" if model.extra else ""
        size = f"{model.size / 1e6:.1f} MB"
        table.add_row(model.name, model.licence, size, memory, here, model.summary, extra, model.costs)
    for name, checkpoint in checkpoints().items():
        here = "yes" if local_checkpoint(name).exists() else "no"
        table.add_row(name, checkpoint.licence, "", "", here, f"{checkpoint.summary}; then `thalweg models convert`")
    console = Console(width=200)
    console.print(table)
    console.say((f"kept in {store.root}", "dim"))


def pull_models(names: Sequence[str]) -> None:
    """Fetch, with one progress bar per model over all its files and their parts. Raises ModelError."""
    store = ModelStore()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(err=True)) as progress:
        for name in names or store.registry.models:
            if "/" in name:
                task = progress.add_task(name, total=None)
                pull_checkpoint(name, lambda done, total, task=task: progress.update(task, completed=done, total=total))  # type: ignore[misc]
                progress.console.print(f"to pull just this file: thalweg models pull {pinned(name)}")
                continue
            files, before = store.registry[name].files, 0
            task = progress.add_task(name, total=store.registry[name].size)
            for file in files:
                store.path(name, file.name, lambda done, _, b=before, t=task: progress.update(t, completed=b + done))  # type: ignore[misc]
                before += file.size
                progress.update(task, completed=before)


def verify_models(names: Sequence[str]) -> int:
    """Check what is here, or the named models; returns 1 where something is missing or wrong."""
    store = ModelStore()
    wanted = names or [held.model.name for held in store.list() if held.present]
    wrong = 0
    for name in wanted:
        if name in checkpoints():
            here = local_checkpoint(name).exists()
            say(f"{name}: {'here; its hash was checked when it was pulled' if here else f'not here: {_pull(name)}'}")
            wrong += not here
            continue
        problems = store.verify(name)
        say(f"{name}: {'as it should be' if not problems else '; '.join(problems)}")
        wrong += bool(problems)
    if not wanted:
        say("no model is here yet: `thalweg models pull` fetches them")
    return int(wrong > 0)


def model_files(name: str) -> list[Path]:
    """Where the files of a model lie, fetched if need be; a checkpoint is not. Raises ModelError."""
    if name not in checkpoints():
        return ModelStore().pull(name)
    if not local_checkpoint(name).exists():
        raise ModelError(f"{name} is not here yet: {_pull(name)}")
    return [local_checkpoint(name)]


def _pull(name: str) -> str:
    return f"`thalweg models pull {name}`"


def convert_model(checkpoint: str, folder: Path, lookahead_ns: int | None, int8: bool) -> None:
    """From a `.nemo` archive, the name of a checkpoint that was pulled or of a recogniser that is ready to use, to a
    folder. Raises ModelError.
    """
    from thalweg.models.speech.fastconformer.deployed import convert
    from thalweg.models.speech.fastconformer.nemo_archive import open_nemo
    from thalweg.models.speech.loading import load_deployed, recognisers

    path = local_checkpoint(checkpoint) if checkpoint in checkpoints() else Path(checkpoint)
    if path.parent.name == checkpoint.replace("/", "--") and not path.exists():
        raise ModelError(f"{checkpoint} is not here yet: {_pull(checkpoint)}")
    lookahead_ms = None if lookahead_ns is None else lookahead_ns / MS
    read = load_deployed(checkpoint).checkpoint() if checkpoint in recognisers() else open_nemo(path)
    deployed = convert(read, folder, lookahead_ms=lookahead_ms, int8=int8)
    size = sum(file.stat().st_size for file in folder.iterdir())
    config = deployed.config
    heads = " and ".join(["RNN-T"] * config.rnnt + ["CTC"] * config.ctc)
    say(f"{folder}: {heads}, {config.layers} layers, {len(deployed.tokens)} tokens, {size / 1e6:.1f} MB")
    say(f"look-ahead {deployed.lookahead * config.frame_ms:.0f} ms")
    say(f"in a pipeline: {{use: speech.fastconformer, model: {folder}}}")
