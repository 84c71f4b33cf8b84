"""How many conversations one machine holds, and what hours of visits leave behind: `bench sessions`.

Server and clients as in `bench turn --webrtc`, on the same processors: what clients use, conversations lack. More and
more of them want to talk at once, until the server refuses some in two crowds running; those it let in are measured,
with each of RECOGNISERS. Then 160 visits, as many as four hours of one in ninety seconds, without waiting in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import urllib.request
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.dialogue.turn import QUESTIONS, RECOGNISERS
from thalweg.deploy.bench.dialogue.webrtc import Speaker, Turns, converse, server
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.server.capacity import WITHIN
from thalweg.deploy.server.load import children_s, descendants
from thalweg.transports.webrtc.client import Talker, TalkError

QUESTIONS_EACH = 8
CROWDS = (1, 2, 3, 4, 6)
VISITS = 160
WARM_UP = 5
CONVERSATION_S = 1_200.0
"""What a crowd, or a quarter of the visits, may take: a machine with other work takes minutes."""
PARTS = ("crowds", "visits")


def measure(result: Result, quick: bool, part: str | None = None) -> None:
    """More and more who want to talk at once, until the server knows how many it holds; then hours of visits."""
    if part is not None and part not in PARTS:
        raise BenchError(f"bench sessions has no part {part!r}; it has {', '.join(PARTS)}")
    speaker = Speaker()
    if part != "visits":
        for recogniser in RECOGNISERS:
            _measure_crowds(result, speaker, quick, recogniser)
    if part != "crowds":
        _measure_visits(result, speaker.say("Hello there."), 10 if quick else VISITS)


def _measure_crowds(result: Result, speaker: Speaker, quick: bool, recogniser: str) -> None:
    spoken = [speaker.say(question) for question in QUESTIONS[: 2 if quick else QUESTIONS_EACH]]
    with server("--per-address", "1000", "--set", f"recogniser={recogniser}") as (url, pid):
        alone, held, refusing = 0.0, 0, 0
        for n in (1, 2) if quick else CROWDS:
            case, began = f"{recogniser} n={n}", _spent_s()
            turns, refused = result.rounds.ours(
                f"{recogniser}: {n} want to talk at once, {len(spoken)} questions each",
                partial(_crowded, url, n, spoken),
                CONVERSATION_S,
            )
            wall, *spent = (after - before for before, after in zip(began, _spent_s(), strict=True))
            server_share, clients_share = (seconds / wall / len(os.sched_getaffinity(0)) for seconds in spent)
            result.add(case, OURS, 1, "share", server_cpu=server_share, clients_cpu=clients_share)
            result.add(case, OURS, n, "conversations", refused=refused, let_in=n - refused)
            result.add(case, OURS, 1, "MB", rss_mb=resources(pid)["rss_mb"])
            result.add(case, OURS, (n - refused) * len(spoken), "turns", missed=turns.missed)
            if turns.first_audio:
                p50, p95 = quantile(turns.first_audio, 0.5), quantile(turns.first_audio, 0.95)
                alone = alone or p95
                result.add(case, OURS, len(turns.first_audio), "ms", first_audio_p50=p50, first_audio_p95=p95)
                result.add(case, OURS, 1, "ratio", first_audio_ratio=p95 / alone)
                if p95 <= WITHIN * alone and not turns.missed:
                    held = max(held, n - refused)
            refusing = refusing + 1 if refused else 0
            if refusing == 2:
                break
        result.add(f"{recogniser} crowd", OURS, 1, "conversations", held=held)


def _measure_visits(result: Result, hello: NDArray[np.float32], count: int) -> None:
    """What connecting, talking and leaving leaves behind, in four parts."""
    with server("--per-address", "1000", "--sessions", "100", "--resume-seconds", "1") as (url, pid):
        failed = 0
        result.rounds.expect(5)
        for part in range(5):
            visits = count // 4 if part else WARM_UP
            failed += result.rounds.ours(
                f"{visits} visits" + (f", {part} of 4" if part else " to warm up"),
                partial(_churned, url, visits, hello),
                CONVERSATION_S,
            )
            found = resources(pid) | {"tasks": _tasks(url), "failed": float(failed)}
            for name, value in found.items():
                unit = "MB" if name == "rss_mb" else name
                result.add(f"visits={part * (count // 4)}", OURS, 1, unit, **{name: value})


def _crowded(url: str, n: int, spoken: list[NDArray[np.float32]]) -> tuple[Turns, int]:
    return asyncio.run(_crowd(url, n, spoken))


def _churned(url: str, count: int, words: NDArray[np.float32]) -> int:
    return asyncio.run(_churn(url, count, words))


async def _crowd(url: str, n: int, questions: list[NDArray[np.float32]]) -> tuple[Turns, int]:
    """`n` conversations at once, begun 0.7 s apart; returns all turns and how many conversations were refused."""
    together, refused = Turns(), 0

    async def one(i: int) -> None:
        nonlocal refused
        await asyncio.sleep(0.7 * i)
        try:
            turns = await converse(url, questions[i % 2 :] + questions[: i % 2])
        except TalkError as error:
            if error.code == "busy":
                refused += 1
            else:
                together.missed += len(questions)
            return
        together.first_audio += turns.first_audio
        together.missed += turns.missed

    async with asyncio.TaskGroup() as group:
        for i in range(n):
            group.create_task(one(i))
    return together, refused


async def _churn(url: str, count: int, words: NDArray[np.float32]) -> int:
    """Connect, say something and leave, every other time without a goodbye. Waits until all sessions have ended.

    Returns how many could not connect within half a minute.
    """
    failed = 0
    for i in range(count):
        try:
            async with Talker(url) as talker:
                await talker.voice.say(words)
                if i % 2:
                    talker.session = ""
        except TalkError:
            failed += 1
    await asyncio.sleep(4.0)
    return failed


def _spent_s() -> tuple[float, float, float]:
    """Now; processor seconds of the server with its children, and of the clients, which are in this process."""
    return time.monotonic(), children_s(), time.process_time()


def _tasks(url: str) -> float:
    """Tasks on the server's event loop."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=5.0) as response:
        lines = response.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("thalweg_loop_tasks "))


def resources(pid: int) -> dict[str, float]:
    """Resident megabytes, open descriptors and threads of a process and the processes it has started."""
    found = {"rss_mb": 0.0, "descriptors": 0.0, "threads": 0.0}
    for process in (pid, *descendants(pid)):
        with contextlib.suppress(OSError, StopIteration, ValueError):
            status = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
            found["rss_mb"] += int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024
            found["threads"] += int(next(line for line in status if line.startswith("Threads")).split()[1])
            found["descriptors"] += len(os.listdir(f"/proc/{process}/fd"))
    return found
