"""The voice pipeline where its stages are put: the answer is the same, also when a worker is killed on the way."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import EXAMPLES, QUESTION
from thalweg.deploy.cluster.deployment import Deployment
from thalweg.deploy.ops.observing.outcome import Outcome
from thalweg.deploy.reading import bundle_of, read_spec
from thalweg.deploy.runtime.worker import Worker

pytestmark = pytest.mark.usefixtures("voice_demo")

LIGHT = {"recogniser": "pocketsphinx", "model": "smollm2-135m-instruct", "end_of_turn": "silence"}
"""Neither what is said is the point here nor when a turn ends, which at full pace hangs on who is faster."""
Said = list[tuple[str, str, bool]]


def said(turns: Any) -> Said:
    return [(turn.transcript, turn.reply, turn.complete) for turn in turns.values()]


def patient(example: str, folder: Path) -> Path:
    """The example, with a language model that may take its time: a busy machine is none of the test's business."""
    text = (EXAMPLES / example).read_text()
    changed = folder / example
    changed.write_text(text.replace("{use: language.chat,", "{use: language.chat, timeout: 60s,"))
    return changed


def turns_in_one_process(folder: Path) -> Said:
    settings = {"input": str(QUESTION), "output": str(folder / "a.wav"), "pace": "full", **LIGHT}
    worker = Worker(read_spec(patient("voice_turn.yaml", folder), settings).graph)
    asyncio.run(worker.run())
    return said(worker.turns.turns)


@pytest.fixture(scope="module")
def in_one_process(tmp_path_factory: pytest.TempPathFactory) -> Said:
    return turns_in_one_process(tmp_path_factory.mktemp("one"))


async def run_example(tmp_path: Path, example: str, pace: str, kills: dict[str, float]) -> Outcome:
    """Run an example; kill workers, each so many seconds after everything was ready."""
    settings = {"input": str(QUESTION), "output": str(tmp_path / "a.wav"), "pace": pace, **LIGHT}
    ready = asyncio.Event()
    file = patient(example, tmp_path)
    spec = read_spec(file, settings)
    bundle = bundle_of(file, settings, traced=False)
    deployment = Deployment(spec, bundle, lambda _: None, on_ready=ready.set)
    async with asyncio.timeout(150), asyncio.TaskGroup() as group:
        running = group.create_task(deployment.run())
        await ready.wait()
        for worker, at_s in kills.items():
            await asyncio.sleep(at_s)
            os.kill(deployment.hosts[worker].pid, signal.SIGKILL)  # type: ignore[union-attr]
    return running.result()


def test_in_three_subprocesses_the_turns_are_the_same(in_one_process: Said, tmp_path: Path) -> None:
    outcome = asyncio.run(run_example(tmp_path, "voice_turn_processes.yaml", "full", {}))
    assert said(outcome.turns) == in_one_process
    assert outcome.problems == []


def test_each_worker_killed_once_in_the_middle_of_the_turns_costs_no_word(in_one_process: Said, tmp_path: Path) -> None:
    kills = {"ears": 1.0, "mouth": 0.5, "brain": 1.5}
    outcome = asyncio.run(run_example(tmp_path, "voice_turn_processes.yaml", "realtime", kills))
    assert said(outcome.turns) == in_one_process
    assert sorted(problem.stage for problem in outcome.problems) == ["brain", "ears", "mouth"]
    assert (tmp_path / "a.wav").stat().st_size > 44_000
