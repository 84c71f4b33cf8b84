"""What a shared worker is for: models in memory once.

pytest -s tests/deploy/cluster/test_shared_memory.py       # prints what was measured
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.deploy.cluster.test_shared import PATIENCE_S
from thalweg import Pipeline, Run, Transcript

RUNS = 4


def below(pid: int) -> Iterator[int]:
    """The processes that a process has started, and those that they have."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from below(child)


def megabytes() -> float:
    """Memory of all workers and what they have started; what several of them map counts once (PSS)."""
    total = 0
    for pid in below(os.getpid()):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1000


def talking(*, shared: bool) -> Pipeline:
    """The models of `voice_chat.yaml` on a worker that does not come back, so that no process waits in reserve."""
    pipeline = Pipeline("talking")
    pipeline.add("ears", "speech.recognise")
    pipeline.add("chat", "language.chat", model="qwen2.5-coder-0.5b-instruct", threads=1, max_tokens=8)
    pipeline.add("sentences", "speech.sentences")
    pipeline.add("voice", "speech.piper")
    pipeline.connect("chat.token", "sentences", "voice")
    pipeline.worker("pool", shared=shared, restart="never")
    for stage in ("ears", "chat", "sentences", "voice"):
        pipeline.place(stage, worker="pool")
    pipeline.expose("voice.audio")
    return pipeline


async def ask(run: Run) -> None:
    """One question, until the first sound of its answer."""
    await run.send("chat.transcript", Transcript(text="Say hello.", final=True), epoch=1)
    await anext(run.packets("voice.audio"))


async def measured(*, shared: bool) -> float:
    """Memory of four conversations that have answered."""
    async with asyncio.timeout(2 * PATIENCE_S), AsyncExitStack() as stack:
        pipeline = talking(shared=shared)
        runs = [await stack.enter_async_context(pipeline.run()) for _ in range(RUNS)]
        for run in runs:
            await ask(run)
        return megabytes()


@pytest.mark.usefixtures("voice_demo")
def test_four_runs_that_share_a_worker_have_their_models_in_memory_once() -> None:
    apart = asyncio.run(measured(shared=False))
    together = asyncio.run(measured(shared=True))
    print(f"\n{RUNS} conversations: {apart:.0f} MB in workers of their own, {together:.0f} MB in one that they share")
    assert together < apart / 2
