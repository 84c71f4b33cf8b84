"""What replicas of a stage bring: numbers through a stage that computes for a while, as fast as they are taken.

Case `even`: each number takes 20 ms of CPU time; `uneven`: one in ten takes 110 ms, the others 10 ms, the same on
average. `rate`: numbers a second that come out, in order. `age_p50`, `age_p99`: from where a number is made, before the
queue, to the sink. Metrics have the number of replicas in their names; `speedup` is over one. Case `cost`: the stage
does nothing, so that splitting, marks and merging are all there is.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial

from thalweg.deploy.bench.core.failover import deploy, local_stage
from thalweg.deploy.bench.result import OURS, Result, quantile

_STAGES = "thalweg.deploy.bench.core.counting"
_PIPELINE = f"""
stages:
  count: {{use: "{_STAGES}:Count", gap_ms: 0}}
  toil: {{use: "{_STAGES}:Toil", usual_ms: USUAL, tenth_ms: TENTH}}
  sink: {{use: "{_STAGES}:Check"}}
connections: [count -> toil -> sink]
workers:
  pool: {{launcher: subprocess, replicas: REPLICAS}}
placement: {{toil: pool}}
"""
_CASES = {"even": (20, 20), "uneven": (10, 110), "cost": (0, 0)}


def measure(result: Result, quick: bool) -> None:
    """Fill in the rows."""
    rounds, seconds = (1, 1.0) if quick else (3, 6.0)
    result.notes.append(f"{os.cpu_count()} cores")
    cases = ("even", "cost") if quick else tuple(_CASES)
    result.rounds.expect(len(cases) * rounds * 2)
    for case in cases:
        found: dict[int, list[tuple[float, float, float]]] = {1: [], 2: []}
        for _ in range(rounds):
            for replicas, runs in found.items():
                what = f"{case}, {replicas} replicas"
                runs.append(result.rounds.ours(what, partial(_ran, result, case, replicas, seconds)))
        rates = {}
        for replicas, runs in found.items():
            rates[replicas] = quantile([rate for rate, _, _ in runs], 0.5)
            result.add(case, OURS, rounds, "1/s", **{f"rate_{replicas}": rates[replicas]})
            ages = {f"age_p50_{replicas}": quantile([age for _, age, _ in runs], 0.5)}
            ages[f"age_p99_{replicas}"] = quantile([age for _, _, age in runs], 0.5)
            result.add(case, OURS, rounds, "ms", **ages)
        result.add(case, OURS, rounds, "", speedup=rates[2] / rates[1])


def _ran(result: Result, case: str, replicas: int, seconds: float) -> tuple[float, float, float]:
    return asyncio.run(_run(result, case, replicas, seconds))


async def _run(result: Result, case: str, replicas: int, seconds: float) -> tuple[float, float, float]:
    usual, tenth = _CASES[case]
    text = _PIPELINE.replace("USUAL", str(usual)).replace("TENTH", str(tenth)).replace("REPLICAS", str(replicas))
    deployment = deploy(text)
    sink = local_stage(deployment, "sink")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(deployment.run())
        await deployment.ready.wait()
        await asyncio.sleep(1.0)
        before, from_ns = len(sink.arrived_ns), sink.arrived_ns[-1]
        await asyncio.sleep(seconds)
        arrived = sink.arrived_ns[before:]
        ages_ms = [age / 1e6 for age in sink.ages_ns[before:]]
        deployment.stop()
    faults = sink.lost + sink.doubled
    if faults or running.result().problems:
        result.notes.append(f"{case}, {replicas} replicas: {faults} lost or doubled; {running.result().problems}")
    return len(arrived) / ((arrived[-1] - from_ns) / 1e9), quantile(ages_ms, 0.5), quantile(ages_ms, 0.99)
