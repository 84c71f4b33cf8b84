"""Hand-off between language models: `thalweg bench handoff [PART]`. Each part says in its module what it measures."""

from __future__ import annotations

from importlib import import_module

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.result import Result

PARTS = ("deaths", "gaps", "pings", "learning", "links", "cascade", "quality", "seams", "live")
MAKING = ("record", "calibrate")


def measure(result: Result, quick: bool, part: str | None = None) -> None:
    """All parts, or one. `record` asks the models anew and keeps their answers in this package, `calibrate` how sure
    and how right they were, and of which questions. Raises BenchError.
    """
    if part == "record":
        from thalweg.deploy.bench.language.recording import record

        record()
    elif part == "calibrate":
        from thalweg.deploy.bench.language import cascade, quality

        cascade.calibrate()
        quality.calibrate()
    elif part is not None and part not in PARTS:
        raise BenchError(f"bench handoff has no part {part!r}; it has {', '.join((*PARTS, *MAKING))}")
    else:
        for name in PARTS if part is None else (part,):
            import_module(f"thalweg.deploy.bench.language.{name}").measure(result, quick)
