"""All three models of the ladder live, on this machine, and dying one behind the other: `bench handoff live`.

smollm2-135m-instruct is in this process, as at the edge; qwen2.5-coder-0.5b-instruct and -1.5b-instruct are in
processes of their own, as in fog and cloud; one thread each. `alone`: each answers with nothing beside it; `at once`:
all three at the same time, which on two cores is slow. `first`: the first token; `rate`: tokens a second behind it.
Last, one answer of a pool for each question, whose cloud is killed (SIGKILL) once eight words of it were said, and its
fog once sixteen were: `finished` where the edge has said the rest. The notes have the answers.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from thalweg.deploy.bench.language.recording import CLOUD, EDGE, FOG, LONGER
from thalweg.deploy.bench.result import OURS, Result
from thalweg.models.language.backend import Backend, Message, Request, Text
from thalweg.models.language.llamacpp import LlamaCppBackend
from thalweg.models.language.openai_backend import OpenAIBackend
from thalweg.stages.language.pool.pool import Member, Pool, PoolPolicy

TURNS, QUICK = 3, 1
ABOUT = ("Tell me about the moon", "Explain to me how bread is made", "Describe the city of Rome")
TOKENS = 40
_PATIENT = {"first_text_within": "120s", "stall": "120s", "first_clause_within": "120s", "probe_every": None}
LIMIT_S = 900.0


@dataclass(frozen=True, slots=True)
class _Answer:
    first_ms: float
    rate: float
    text: str


@dataclass(slots=True)
class _Ladder:
    """`processes`: of fog and cloud."""

    backends: dict[str, Backend]
    processes: dict[str, subprocess.Popen[str]]


def measure(result: Result, quick: bool) -> None:
    """Rows per model, alone and at once, and of turns in which two of three die."""
    turns = ABOUT[: QUICK if quick else TURNS]
    result.rounds.expect(2 + len(turns))
    for case, together in (("alone", False), ("at once", True)):
        found = result.rounds.ours(case, lambda t=together: asyncio.run(_speeds(t)), LIMIT_S)  # type: ignore[misc]
        for model, answer in found.items():
            result.add(case, model, 1, "ms", first=answer.first_ms)
            result.add(case, model, 1, "tokens/s", rate=answer.rate)
    for about in turns:
        finished, switches, took_s, said = result.rounds.ours(about, lambda a=about: asyncio.run(_die(a)), LIMIT_S)  # type: ignore[misc]
        result.add(about, OURS, 1, "of a turn", finished=float(finished), switches=float(switches))
        result.add(about, OURS, 1, "s", took=took_s)
        result.notes.append(said)


@asynccontextmanager
async def _ladder() -> AsyncIterator[_Ladder]:
    processes = {name: _start(model) for name, model in (("house", FOG), ("cloud", CLOUD))}
    backends: dict[str, Backend] = {"pocket": LlamaCppBackend(EDGE, threads=1, retries=0)}
    try:
        for name, model in (("house", FOG), ("cloud", CLOUD)):
            stdout = processes[name].stdout
            assert stdout is not None
            where = json.loads(await asyncio.to_thread(stdout.readline))
            backends[name] = OpenAIBackend.of_this_process(model, where["url"], where["key"], 0)
        yield _Ladder(backends, processes)
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def _start(model: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "thalweg.deploy.bench.language.programs.lone_model", model]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    )


def _request(about: str) -> Request:
    return Request(messages=[Message("system", LONGER), Message("user", about)], max_tokens=TOKENS)


async def _speeds(together: bool) -> Mapping[str, _Answer]:
    names = {"pocket": EDGE, "house": FOG, "cloud": CLOUD}
    async with _ladder() as ladder:
        for backend in ladder.backends.values():
            await backend.open()
        asked = [_time(ladder.backends[name]) for name in names]
        answers = await asyncio.gather(*asked) if together else [await each for each in asked]
        for backend in ladder.backends.values():
            await backend.close()
    return dict(zip(names.values(), answers, strict=True))


async def _time(backend: Backend) -> _Answer:
    began_s, first_s, tokens, said = time.monotonic(), 0.0, 0, ""
    async with aclosing(backend.reply(_request(ABOUT[0]))) as deltas:
        async for delta in deltas:
            if isinstance(delta, Text) and delta.text:
                first_s = first_s or time.monotonic()
                tokens += 1
                said += delta.text
    return _Answer(1e3 * (first_s - began_s), (tokens - 1) / max(1e-9, time.monotonic() - first_s), said)


async def _die(about: str) -> tuple[bool, int, float, str]:
    members = {
        "pocket": Member(where="edge", quality=0.3),
        "house": Member(where="fog", quality=0.6),
        "cloud": Member(where="cloud", quality=0.9),
    }
    async with _ladder() as ladder:
        pool = Pool(members, PoolPolicy.model_validate(_PATIENT), made=ladder.backends)
        await pool.open()
        began_s, said, left = time.monotonic(), "", [(8, "cloud"), (16, "house")]
        async with aclosing(pool.reply(_request(about))) as deltas:
            async for delta in deltas:
                said += delta.text if isinstance(delta, Text) else ""
                if left and len(said.split()) >= left[0][0]:
                    _, name = left.pop(0)
                    ladder.processes[name].kill()
                    said += f"[{name} is killed] "
        await pool.close()
    routed = pool.routed
    return routed is not None and routed.backend == "pocket", pool.counts["switches"], time.monotonic() - began_s, said
