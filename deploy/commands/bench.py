"""`thalweg bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from thalweg.deploy.bench import BENCHES, run_bench
from thalweg.deploy.ops.keeping.operating import FILE

_LIST = "\n".join(f"{name:<10} {bench.about}" for name, bench in BENCHES.items())


@click.command(help=f"Measure, next to other systems where they are installed (`make bench-peers`).\n\n\b\n{_LIST}")
@click.argument("name", type=click.Choice(list(BENCHES)), metavar="NAME")
@click.argument("part", required=False)
@click.option("--json", "json_path", type=FILE, help="Write the rows as JSON.")
@click.option("--quick", is_flag=True, help="Fewer repetitions: to see that it works, not to quote.")
@click.option("--webrtc", is_flag=True, help="turn: through a server, measured at a WebRTC client.")
@click.option("--peer", type=click.Choice(["pipecat"]), help="turn: beside another system with the same models.")
@click.option("--minutes", type=float, help="soak: how long. Others: stop after that; run it again to go on.")
@click.option(
    "--model",
    help="asr: a recogniser, by name or folder. answers, nothing, turn, wer: some, with commas.",
)
@click.option(
    "--limit",
    "limit_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="What one round of one system may take; what has not ended by then is given up, and a peer left out.",
)
@click.option("--csv", is_flag=True, help="hop: print rows in the columns of dora's own benchmark, too.")
@click.option(
    "--across",
    type=click.Choice(["processes", "hosts"]),
    help="freshness: across two processes, or between two network namespaces; inside one process if left out.",
)
def bench(name: str, json_path: Path | None, quick: bool, limit_s: float | None, **options: Any) -> None:
    """Run it with the options that were given."""
    given = {option: value for option, value in options.items() if value}
    run_bench(name, json_path, quick, limit_s=limit_s, **given)
