"""Hand-off between language models: `thalweg bench handoff [PART]`. Each part says in its module what it measures."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.result import Result

PARTS = ("deaths", "pings", "learning", "links")


def measure(result: Result, quick: bool, part: str | None = None, json_path: Path | None = None) -> None:
    """All parts, or one; `record` asks the models and writes their answers to `json_path`. Raises BenchError."""
    if part == "record":
        if json_path is None:
            raise BenchError("bench handoff record writes what was answered: --json FILE says where")
        from thalweg.deploy.bench.language.recording import record

        record(json_path)
        return
    if part is not None and part not in PARTS:
        raise BenchError(f"bench handoff has no part {part!r}; it has {', '.join(PARTS)} and record")
    for name in PARTS if part is None else (part,):
        import_module(f"thalweg.deploy.bench.language.{name}").measure(result, quick)
