"""Benchmarks that anybody can run: `thalweg bench NAME`. Peers run in environments of their own, in the same run."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from thalweg.deploy.bench.result import Result


def run_bench(
    name: str,
    json_path: Path | None,
    quick: bool,
    *,
    webrtc: bool = False,
    csv: bool = False,
    across: str = "process",
    minutes: float | None = None,
    part: str | None = None,
) -> Result:
    """Run one benchmark, print its table and write its rows. `csv`: `hop` prints its rows in dora's columns, too.

    `across`: `process`, `processes` or `hosts`, for `freshness`. `minutes`: how long `soak` goes on, and after
    how long `video`, of which `part` names one part, leaves the rest for the next run.
    """
    if name == "inprocess":
        from thalweg.deploy.bench.inprocess import measure
    elif name == "asr":
        from thalweg.deploy.bench.asr import measure
    elif name == "failover":
        from thalweg.deploy.bench.failover import measure
    elif name == "freshness" and across == "processes":
        from thalweg.deploy.bench.across import measure_processes as measure
    elif name == "freshness" and across == "hosts":
        from thalweg.deploy.bench.across import measure_hosts as measure
    elif name == "freshness":
        from thalweg.deploy.bench.freshness import measure
    elif name == "hop":
        from thalweg.deploy.bench.hop import measure
    elif name == "video":
        from thalweg.deploy.bench import video

        measure = partial(video.measure, part=part, minutes=minutes, json_path=json_path)
    elif name == "glass":
        from thalweg.deploy.bench.glass import measure
    elif name == "sessions":
        from thalweg.deploy.bench.sessions import measure
    elif name == "multimodal":
        from thalweg.deploy.bench.multimodal import measure
    elif name == "replicas":
        from thalweg.deploy.bench.replicas import measure
    elif name == "soak":
        from thalweg.deploy.bench import soak

        measure = partial(soak.measure, minutes=minutes or soak.MINUTES)
    elif webrtc:
        from thalweg.deploy.bench.webrtc import measure_turns as measure
    else:
        from thalweg.deploy.bench.turn import measure
    result = Result(bench=name)
    measure(result, quick)
    result.finish(json_path)
    if csv:
        from thalweg.deploy.bench.hop import rows_like_dora

        print(*rows_like_dora(result), sep="\n")
    return result


__all__ = ["Result", "run_bench"]
