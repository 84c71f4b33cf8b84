"""The latency of a visitor while others attack the server: `bench siege`.

Server and clients as in `bench turn --webrtc`. A visitor at 127.0.0.1 connects and asks short questions, alternately in
peace and under siege (so that other load of the machine affects both), each time in a new conversation, since
connecting is part of the measurement. The attackers (`attackers.py`) are other addresses of this machine, in a process
of the lowest priority. An answer is cut short once it has begun. Memory (shared pages shared out, PSS) is that of the
server and the processes it has started, descriptors are the server's, looked at twice a second: the most there were in
peace and under siege, and a minute afterwards, when a pipeline that was made beside another is gone (`quick` does not
wait for that).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.dialogue.attackers import ATTACKS
from thalweg.deploy.bench.dialogue.webrtc import Speaker, server
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.commands.talk import Ear
from thalweg.deploy.server.load import children_s, descendants
from thalweg.deploy.server.pipelines import SPARE_S
from thalweg.transports.webrtc.client import Talker, TalkError

QUESTIONS = ("What is the capital of France?", "Why is the sky blue?", "What do cows eat?")
EACH = 6
ROUNDS, ROUNDS_ALONE = 5, 4
BEGIN_S = 3.0
REST_S = 3.0
LOOK_S = 0.5
CASE_S = 3_600.0
TOGETHER = "together"


@dataclass(slots=True)
class Times:
    """What the visitor measured in peace or under siege; ms. `spent`: of the server, processor seconds."""

    first_audio: list[float] = field(default_factory=list)
    connect: list[float] = field(default_factory=list)
    missed: int = 0
    spent: float = 0.0
    lasted: float = 0.0
    looks: list[dict[str, float]] = field(default_factory=list)


def measure(result: Result, quick: bool, part: str | None = None) -> None:
    """All kinds of attack at once, then (not if `quick`) one after the other; `part`: `together`, or one kind alone."""
    cases = {TOGETHER: list(ATTACKS)} | {kind: [kind] for kind in ATTACKS}
    if part is not None and part not in cases:
        raise BenchError(f"bench siege has no part {part!r}; it has {', '.join(cases)}")
    speaker = Speaker()
    spoken = [speaker.say(question) for question in QUESTIONS]
    chosen = part or (TOGETHER if quick else "")
    wanted = {case: kinds for case, kinds in cases.items() if chosen in ("", case)}
    result.rounds.expect(len(wanted))
    for case, kinds in wanted.items():
        result.rounds.ours(case, partial(_besiege, result, case, kinds, spoken, quick), CASE_S)


def _besiege(result: Result, case: str, kinds: list[str], spoken: list[NDArray[np.float32]], quick: bool) -> None:
    asyncio.run(_measure(result, case, kinds, spoken, quick))


async def _measure(result: Result, case: str, kinds: list[str], spoken: list[NDArray[np.float32]], quick: bool) -> None:
    rounds = ROUNDS_ALONE if quick or len(kinds) == 1 else ROUNDS
    peace, siege, done = Times(), Times(), Counter[str]()
    with server() as (url, pid):
        await _ask(url, pid, spoken[:1], Times())  # the first one finds everything cold
        for _ in range(rounds):
            await _ask(url, pid, [spoken[n % len(spoken)] for n in range(EACH)], peace)
            with _besieged(url, kinds, done):
                await asyncio.sleep(BEGIN_S)
                await _ask(url, pid, [spoken[n % len(spoken)] for n in range(EACH)], siege)
            await asyncio.sleep(REST_S)
        await asyncio.sleep(0.0 if quick else SPARE_S + REST_S)
        after = _held(pid)
    for name, times in (("peace", peace), ("siege", siege)):
        _add(result, f"{case}: {name}", times, rounds * EACH)
    if peace.first_audio and siege.first_audio:
        ratio = quantile(siege.first_audio, 0.95) / quantile(peace.first_audio, 0.95)
        result.add(case, OURS, len(siege.first_audio), "ratio", first_audio_p95_ratio=ratio)
    for name in ("memory_mb", "descriptors"):
        in_peace, under_siege = (max(look[name] for look in times.looks) for times in (peace, siege))
        found = {f"{name}_peace": in_peace, f"{name}_siege": under_siege, f"{name}_afterwards": after[name]}
        result.add(case, OURS, 1, "MB" if name == "memory_mb" else "count", **found)
    made = ", ".join(f"{name} {n:,}" for name, n in sorted(done.items()))
    result.notes.append(f"{case}: in {siege.lasted:.0f} s of siege: {made}")
    click.echo(result.notes[-1], err=True)


def _add(result: Result, case: str, times: Times, asked: int) -> None:
    result.add(case, OURS, asked, "count", missed=times.missed)
    for name in ("first_audio", "connect"):
        values = getattr(times, name)
        if values:
            found = {f"{name}_p50": quantile(values, 0.5), f"{name}_p95": quantile(values, 0.95)}
            result.add(case, OURS, len(values), "ms", **found)
    result.add(case, OURS, 1, "share", server_cpu=times.spent / times.lasted / len(os.sched_getaffinity(0)))


async def _ask(url: str, pid: int, questions: list[NDArray[np.float32]], times: Times) -> None:
    """One conversation; what it met is added to `times`."""
    began, spent = time.monotonic(), _cpu_s(pid)
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(_look(pid, times))
        try:
            await _talk(url, questions, times)
        except TalkError as error:
            click.echo(f"no conversation came about: {error}", err=True)
            times.missed += len(questions)
        looking.cancel()
    times.lasted += time.monotonic() - began
    times.spent += _cpu_s(pid) - spent


async def _talk(url: str, questions: list[NDArray[np.float32]], times: Times) -> None:
    began = time.monotonic()
    async with Talker(url) as talker:
        times.connect.append((time.monotonic() - began) * 1e3)
        await asyncio.sleep(1.0)
        for question in questions:
            ear = Ear()
            talker.on_audio = ear.hear
            try:
                async with asyncio.timeout(20.0):
                    ended_ns = await talker.voice.say(question)
                    await talker.next("latency", timeout_s=20.0)
                await asyncio.sleep(0.3)
                first_ns = ear.first_sound_ns(ended_ns)
            except (TimeoutError, TalkError):
                first_ns = None
            if first_ns is None:
                times.missed += 1
            else:
                times.first_audio.append((first_ns - ended_ns) / 1e6)
            talker.send({"type": "stop"})
            await asyncio.sleep(1.0)


def _held(pid: int) -> dict[str, float]:
    """Megabytes of a server with what it has started, and its descriptors."""
    held = 0
    for process in (pid, *descendants(pid)):
        with contextlib.suppress(OSError, StopIteration):  # one that ends meanwhile
            lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines()
            held += int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return {"memory_mb": held / 1024, "descriptors": float(len(os.listdir(f"/proc/{pid}/fd")))}


async def _look(pid: int, times: Times) -> None:
    while True:
        times.looks.append(_held(pid))
        await asyncio.sleep(LOOK_S)


def _cpu_s(pid: int) -> float:
    """Processor seconds of a process and of those it has started."""
    own = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(own[11]) + int(own[12])) / os.sysconf("SC_CLK_TCK") + children_s(pid)


@contextmanager
def _besieged(url: str, kinds: list[str], done: Counter[str]) -> Iterator[None]:
    """The attackers at work, in a session of their own, as Linux shares out time by sessions; counts go to `done`."""
    command = [sys.executable, "-m", "thalweg.deploy.bench.dialogue.attackers", url, *kinds]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    attackers = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, env=env, start_new_session=True)
    try:
        yield
    finally:
        try:
            said, _ = attackers.communicate(b"", 20.0)
        except subprocess.TimeoutExpired:
            attackers.kill()
            said, _ = attackers.communicate()
        with contextlib.suppress(ValueError):
            done.update(json.loads(said))
