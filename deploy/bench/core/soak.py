"""Full speed across workers for minutes: does anything grow?

Numbers go as fast as they are taken through two workers that keep count and may be restarted, so with checkpoints
and everything that is kept for sending again; beside them pictures of changing size go through one of the workers,
the newest first. Once a second every worker is looked at. `growth`: of the median of the last tenth of the time over
that of the tenth that begins when a fifth of it is over, the time everything takes to reach its size. `segments`:
shared memory that is mapped.
"""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from statistics import median

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.core.failover import deploy, local_stage
from thalweg.deploy.bench.core.reconnects import measure_reconnects
from thalweg.deploy.bench.result import OURS, Result
from thalweg.deploy.bench.rounds import LIMIT_S

MINUTES = 10.0
_STAGES = "thalweg.deploy.bench.core.counting"
_PIPELINE = f"""
stages:
  count: {{use: "{_STAGES}:Count", gap_ms: 0}}
  first: {{use: "{_STAGES}:Tally"}}
  second: {{use: "{_STAGES}:Tally"}}
  sink: {{use: "{_STAGES}:Check"}}
  frames: {{use: "{_STAGES}:Frames"}}
  pass: {{use: "{_STAGES}:Pass"}}
  see: {{use: "{_STAGES}:See"}}
connections:
  - count -> first -> second -> sink
  - {{from: frames, to: pass, policy: latest}}
  - {{from: pass, to: see, policy: latest}}
workers:
  a: {{launcher: subprocess, restart: on_failure}}
  b: {{launcher: subprocess, restart: on_failure}}
placement: {{first: a, second: b, pass: a}}
"""
_SEGMENT = re.compile(r"memfd:thalweg")


def measure(result: Result, quick: bool, minutes: float = MINUTES, part: str = "speed") -> None:
    """Fill in the rows; `quick` is 20 seconds, or 10. `part`: `speed`, or `reconnects` (see `reconnects.py`)."""
    seconds = (10.0 if part == "reconnects" else 20.0) if quick else minutes * 60
    parts = {"speed": _measure, "reconnects": measure_reconnects}
    if part not in parts:
        raise BenchError(f"bench soak has no part {part!r}; it has {', '.join(parts)}")
    measured = parts[part]
    result.rounds.expect(1)
    result.rounds.ours(f"{part}, {seconds:.0f} s", lambda: asyncio.run(measured(result, seconds)), seconds + LIMIT_S)


async def _measure(result: Result, seconds: float) -> None:
    deployment = deploy(_PIPELINE)
    sink, see = local_stage(deployment, "sink"), local_stage(deployment, "see")
    looks: dict[str, list[tuple[int, int, int]]] = {name: [] for name in deployment.hosts}
    async with asyncio.TaskGroup() as group:
        running = group.create_task(deployment.run())
        await deployment.ready.wait()
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            await asyncio.sleep(1.0)
            sink.arrived_ns.clear()
            sink.ages_ns.clear()
            for name, stats in (await deployment.stats()).items():
                if stats is not None:
                    looks[name].append((stats["resident_bytes"], stats["open_files"], _segments(stats["pid"])))
        deployment.stop()
    for name, series in looks.items():
        early = series[len(series) // 5 : len(series) // 5 + max(1, len(series) // 10)]
        late = series[-max(1, len(series) // 10) :]
        middles = [(median(look[i] for look in early), median(look[i] for look in late)) for i in range(3)]
        (rss, rss_late), (files, files_late), (segments, segments_late) = middles
        mb = 1 / 1e6
        result.add(name, OURS, len(series), "MB", rss=rss_late * mb, rss_growth=(rss_late - rss) * mb)
        result.add(name, OURS, len(series), "", open_files=files_late, open_files_growth=files_late - files)
        result.add(name, OURS, len(series), "", segments=segments_late, segments_growth=segments_late - segments)
    result.add("all", OURS, 1, "1/s", numbers=(sink.last + 1) / seconds, pictures=see.seen / seconds)
    faults = {"lost": sink.lost, "doubled": sink.doubled, "miscounted": sink.miscounted}
    result.add("all", OURS, sink.last + 1, "packets", **faults)
    if running.result().problem_count:
        result.notes.append("; ".join(problem.message for problem in running.result().problems))


def _segments(pid: int) -> int:
    try:
        return len(_SEGMENT.findall(Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")))
    except OSError:
        return 0
