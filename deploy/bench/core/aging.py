"""What a pipeline's age costs: nothing may grow with the turns there were.

Part `turns`: questions go to a worker of their own that may be started again (`restart: on_failure`), and answers come
back, as fast as they go, until there have been 10, 100, … 100,000 turns; then 20 ms chunks of sound go the same way and
back for three seconds. `age`: of that sound when it has come back. `checkpoint`: processor time of one, of the
process that asks, with one turn that is new; `interrupt`: of one signal, past all its stages. `rss`: resident memory of
the two processes. Turns are kept up to a number (10,000), so memory grows until then.

Part `up`: the same under `thalweg up`, where a thousand turns are kept; answers come word by word, with two seconds of
sound. An hour stands for 720 turns, one every five seconds, played as fast as they go.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.core.aging_stages import CHUNK_S
from thalweg.deploy.bench.core.failover import deploy, local_stage
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.ops.keeping.control import Control
from thalweg.deploy.ops.keeping.deployments import DeploymentFolder, KeepingError
from thalweg.deploy.ops.keeping.up import bring_up, take_down
from thalweg.deploy.runtime.checkpoint import CheckpointJournal, take_checkpoint
from thalweg.deploy.runtime.worker import Worker

TURNS = (10, 100, 1_000, 10_000, 100_000)
HOURS = (0.25, 0.5, 1.0, 2.0, 4.0)
TURNS_AN_HOUR = 720
PARTS = ("turns", "up")
SOUND_S = 2.0
LIMIT_S = 3_600.0
_STAGES = "thalweg.deploy.bench.core.aging_stages"
_TALK = f"""
name: aging
variables: {{turns: 0, words: 1, chunks: 1}}
stages:
  ask: {{use: "{_STAGES}:Ask", turns: "${{turns}}"}}
  answer: {{use: "{_STAGES}:Answer", words: "${{words}}", chunks: "${{chunks}}"}}
  hear: {{use: "{_STAGES}:Hear"}}
  hear_sound: {{use: "{_STAGES}:HearSound"}}
  microphone: {{use: "{_STAGES}:Microphone"}}
  pass: {{use: "{_STAGES}:PassSound"}}
  speaker: {{use: "{_STAGES}:Speaker"}}
connections:
  - {{from: ask, to: answer, capacity: 256}}
  - {{from: answer.answer, to: hear, capacity: 256}}
  - {{from: answer.sound, to: hear_sound, capacity: 256}}
  - microphone -> pass -> speaker
workers:
  a: {{launcher: subprocess, restart: on_failure}}
placement: {{answer: a, pass: a}}
"""


def measure(result: Result, quick: bool, part: str | None = None) -> None:
    """Fill in the rows. Raises BenchError on an unknown part."""
    if part is not None and part not in PARTS:
        raise BenchError(f"bench aging has no part {part!r}; it has {', '.join(PARTS)}")
    if part != "up":
        turns, times, listen_s = (TURNS[:3], 10, 1.0) if quick else (TURNS, 50, 3.0)
        result.rounds.expect(1)
        aged = lambda: asyncio.run(_age(result, turns, times, listen_s))  # noqa: E731
        result.rounds.ours(f"{turns[-1]:,} turns", aged, LIMIT_S)
    if part != "turns":
        hours = (0.05,) if quick else HOURS
        result.rounds.expect(len(hours))
        _stay(result, hours)


async def _age(result: Result, milestones: tuple[int, ...], times: int, listen_s: float) -> None:
    deployment = deploy(_TALK)
    worker: Worker = deployment.hosts["local"].worker  # type: ignore[union-attr]
    ask, hear, speaker = (local_stage(deployment, name) for name in ("ask", "hear", "speaker"))
    journal = CheckpointJournal(worker)
    asked = 0

    async def answered(count: int) -> None:
        nonlocal asked
        asked += count
        ask.ask(count)
        while hear.complete < asked:  # noqa: ASYNC110  # a turn takes less than looking
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        running = group.create_task(deployment.run())
        await deployment.ready.wait()
        for turns in milestones:
            result.rounds.mention(f"{turns:,} turns")
            began_s = time.monotonic()
            await answered(turns - asked)
            took_s = time.monotonic() - began_s
            await asyncio.sleep(1.0)
            journal.pack()
            journal.safe()
            speaker.ages_ns.clear()
            await asyncio.sleep(listen_s)
            ages_ms = [age / 1e6 for age in speaker.ages_ns]
            checkpoints, sizes, interrupts = [], [], []
            for _ in range(times):
                await answered(1)
                before_s = time.thread_time()
                checkpoint = take_checkpoint(worker, journal)
                spent_s = time.thread_time() - before_s
                if checkpoint is not None:
                    journal.safe()
                    checkpoints.append(spent_s * 1e6)
                    sizes.append(len(checkpoint.packed) + len(checkpoint.news))
                before_s = time.thread_time()
                hear.interrupt(asked + 1)
                interrupts.append((time.thread_time() - before_s) * 1e6)
            stats = await deployment.stats()
            case = f"turns={turns}"
            rss = {f"rss_{name}": found["resident_bytes"] / 1e6 for name, found in stats.items() if found is not None}
            result.add(case, OURS, 1, "MB", **rss)
            result.add(case, OURS, len(checkpoints), "µs", checkpoint_p50=median(checkpoints))
            result.add(case, OURS, len(checkpoints), "bytes", checkpoint_size=median(sizes))
            result.add(case, OURS, times, "µs", interrupt_p50=median(interrupts))
            result.add(
                case, OURS, len(ages_ms), "ms", age_p50=quantile(ages_ms, 0.5), age_p95=quantile(ages_ms, 0.95),
            )  # fmt: skip
            result.add(case, OURS, turns, "1/s", turns_a_second=turns / took_s)
        deployment.stop()
    if running.result().problem_count:
        result.notes.append("; ".join(problem.message for problem in running.result().problems))


def _stay(result: Result, hours: tuple[float, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("XDG_STATE_HOME")
        os.environ["XDG_STATE_HOME"] = folder  # keeps it apart from the user's own deployments
        try:
            _up(result, Path(folder), hours)
        finally:
            del os.environ["XDG_STATE_HOME"]
            if before is not None:
                os.environ["XDG_STATE_HOME"] = before


def _up(result: Result, folder: Path, hours: tuple[float, ...]) -> None:
    file = folder / "aging.yaml"
    file.write_text(_TALK, encoding="utf-8")
    turns = round(hours[-1] * TURNS_AN_HOUR) + TURNS_AN_HOUR
    settings = {"turns": str(turns), "words": "20", "chunks": str(round(SOUND_S / CHUNK_S))}
    up, _ = bring_up(file, settings, name="aging", ray=None, metrics=None, within_s=60.0, foreground=False)
    try:
        with Control(up) as control:
            for hour in hours:
                wanted = round(hour * TURNS_AN_HOUR)
                rss = result.rounds.ours(
                    f"up for {hour:g} h, {wanted} turns", partial(_rss_at, control, wanted), LIMIT_S
                )
                result.add(f"up {hour:g} h", OURS, 1, "MB", **rss)
    finally:
        _down(up)


def _rss_at(control: Control, turns: int) -> dict[str, float]:
    """Resident memory of each process once that many turns are over."""
    while True:
        stats = control.ask("stats")["stats"]
        seen = [turn["epoch"] for turn in stats["local"]["turns"]]
        if max(seen, default=0) >= turns:
            return {f"rss_{name}": found["resident_bytes"] / 1e6 for name, found in stats.items() if found is not None}
        time.sleep(0.1)


def _down(up: DeploymentFolder) -> None:
    with suppress(KeepingError):
        take_down(up, 10.0)
    up.kill_processes()
