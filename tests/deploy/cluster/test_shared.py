"""One worker for many runs: a process with the models once, and for each run stages of its own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import QUESTION, require_package
from tests.deploy.cluster.shared_stages import Ears, Gate, Notes, Slow
from thalweg import AudioChunk, Packet, Pipeline, Run, Speech, SpeechEvent, Token, Transcript
from thalweg.deploy.cluster.host import Bundle
from thalweg.deploy.cluster.order import Order
from thalweg.deploy.cluster.remote import WorkerLost
from thalweg.deploy.cluster.shared import SharedCarrier
from thalweg.deploy.cluster.shared_actor import SharedActor
from thalweg.deploy.errors import StartError
from thalweg.pipeline.file.plan import WorkerPlan
from thalweg.stages.io.sound import decoded

PATIENCE_S = 120.0
RATE = 16_000


def pipeline_of(stage: type, name: str = "shared", **options: Any) -> Pipeline:
    """A gate here, and a stage on a worker that is shared."""
    pipeline = Pipeline(name)
    pipeline.add("gate", Gate)
    pipeline.add("stage", stage)
    pipeline.connect("gate", "stage")
    pipeline.worker("pool", **{"shared": True, "backoff": "50ms"} | options)
    pipeline.place("stage", worker="pool")
    return pipeline


class Talk:
    """A run, asked things and answering them in order."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._answers: AsyncIterator[Packet] = run.packets("stage.text")

    async def tell(self, text: str, epoch: int = 1) -> None:
        await self.run.send("gate.text", Token(text=text), epoch=epoch)

    async def hear(self) -> str:
        payload = (await anext(self._answers)).payload
        assert isinstance(payload, Token)
        return payload.text

    async def ask(self, text: str, epoch: int = 1) -> tuple[int, str]:
        """The process that answers, and what it remembers."""
        await self.tell(text, epoch)
        pid, _, told = (await self.hear()).partition(" ")
        return int(pid), told


def hold(pipeline: Pipeline, case: Callable[[Talk, Talk], Awaitable[None]]) -> None:
    """Two runs of a pipeline at the same time."""

    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S), AsyncExitStack() as stack:
            runs = [await stack.enter_async_context(pipeline.run()) for _ in range(2)]
            await case(*map(Talk, runs))

    asyncio.run(main())


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def children() -> set[int]:
    """Worker processes of this one."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        for pid in map(int, (task / "children").read_text().split()):
            with suppress(OSError):
                if b"thalweg.deploy.cluster.child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.add(pid)
    return found


def test_two_runs_share_a_process_and_neither_has_what_the_other_was_told() -> None:
    async def case(one: Talk, other: Talk) -> None:
        pid, told = await one.ask("a")
        assert (await other.ask("b")) == (pid, "b")
        assert (await one.ask("c")) == (pid, "a c")
        assert told == "a"
        assert pid != os.getpid()

    hold(pipeline_of(Notes), case)


def test_a_killed_worker_comes_back_once_for_all_and_each_run_goes_on_from_its_own_state() -> None:
    async def case(one: Talk, other: Talk) -> None:
        pid, _ = await one.ask("a")
        await other.ask("b")
        os.kill(pid, signal.SIGKILL)
        new, told = await one.ask("c")
        assert told == "a c"
        assert await other.ask("d") == (new, "b d")
        assert new != pid
        assert all([p.recovered for p in talk.run.problems] == [True] for talk in (one, other))

    hold(pipeline_of(Notes), case)


def test_a_worker_that_hangs_is_killed_for_all_and_comes_back() -> None:
    async def case(one: Talk, other: Talk) -> None:
        pid, _ = await one.ask("a")
        await other.ask("b")
        os.kill(pid, signal.SIGSTOP)
        new, told = await one.ask("c")
        assert told == "a c"
        assert await other.ask("d") == (new, "b d")
        assert not alive(pid)

    hold(pipeline_of(Notes, heartbeat="3s"), case)


def test_a_run_that_joins_a_process_that_hangs_begins_in_the_next_one() -> None:
    pipeline = pipeline_of(Notes, heartbeat="3s")

    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S), pipeline.run() as run:
            one = Talk(run)
            pid, _ = await one.ask("a")
            os.kill(pid, signal.SIGSTOP)
            async with pipeline.run() as late:
                new, told = await Talk(late).ask("b")
                assert (told, late.problems) == ("b", [])
                assert await one.ask("c") == (new, "a c")

    asyncio.run(main())


def test_a_run_that_interrupts_its_own_farewell_has_left() -> None:
    class Silent:
        """Never answers a farewell."""

        def __init__(self) -> None:
            self.runs: set[str] = set()

        async def join(self, whose: str, on_problem: object) -> None:
            self.runs.add(whose)

        async def call(self, whose: str, name: str, *args: object) -> None:
            if name == "leave":
                await asyncio.Event().wait()

        async def part(self, whose: str) -> None:
            self.runs.discard(whose)

    async def main() -> None:
        process: Any = Silent()
        carrier = SharedCarrier(order(), lambda: process)
        await carrier.start()
        assert len(process.runs) == 1
        closing = asyncio.ensure_future(carrier.close())
        await asyncio.sleep(0.05)
        closing.cancel()
        await asyncio.wait({closing})
        assert process.runs == set()

    asyncio.run(main())


def test_a_run_that_is_interrupted_leaves_the_work_of_the_other_alone() -> None:
    async def case(one: Talk, other: Talk) -> None:
        await one.tell("dwell")
        await other.tell("dwell")
        assert (await one.hear(), await other.hear()) == ("dwelling", "dwelling")
        await one.tell("stop", epoch=2)
        assert (await one.ask("a", epoch=2))[1] == "a"
        await other.tell("b")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await other.hear()

    hold(pipeline_of(Notes), case)


def test_a_run_that_is_slow_does_not_hold_up_the_other() -> None:
    async def case(one: Talk, other: Talk) -> None:
        async with asyncio.TaskGroup() as group:
            telling = [group.create_task(one.tell("600", epoch=1)) for _ in range(100)]  # more than all channels hold
            await asyncio.sleep(0.5)
            for _ in range(20):
                await other.tell("0")
                assert await other.hear() == "0"
            assert not all(task.done() for task in telling)
            for task in telling:
                task.cancel()

    hold(pipeline_of(Slow), case)


def test_a_run_that_is_restarted_or_ends_leaves_the_other_alone_and_behind_the_last_the_process_ends() -> None:
    pids = []

    async def main() -> None:
        pipeline = pipeline_of(Notes)
        async with asyncio.timeout(PATIENCE_S), pipeline.run() as staying:
            other = Talk(staying)
            async with pipeline.run() as run:
                one = Talk(run)
                pid, _ = await one.ask("a")
                assert (await other.ask("b"))[0] == pid
                await run.restart("pool")
                assert await one.ask("c") == (pid, "a c")
            assert await other.ask("d") == (pid, "b d")
            assert staying.problems == []
            pids.append(pid)
        assert not alive(pid)

    asyncio.run(main())
    assert len(pids) == 1


def test_one_run_too_many_is_told_so_and_the_one_that_is_there_talks_on_and_comes_back() -> None:
    pipeline = pipeline_of(Notes, shared={"runs": 1})

    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            async with pipeline.run() as run:
                one = Talk(run)
                pid, _ = await one.ask("a")
                with pytest.raises(StartError, match="worker pool is full"):
                    async with pipeline.run():
                        """It is not let in."""
                assert await one.ask("b") == (pid, "a b")
                os.kill(pid, signal.SIGKILL)
                assert (await one.ask("c"))[1] == "a b c"
            async with pipeline.run() as late:
                assert (await Talk(late).ask("d"))[1] == "d"

    asyncio.run(main())


def test_one_process_waits_in_reserve_and_takes_its_place() -> None:
    async def case(one: Talk, other: Talk) -> None:
        pid, _ = await one.ask("a")
        waiting = children() - {pid}
        assert len(waiting) == 1
        os.kill(pid, signal.SIGKILL)
        assert (await one.ask("b")) == (*waiting, "a b")
        assert (await other.ask("c")) == (*waiting, "c")

    hold(pipeline_of(Notes), case)
    assert children() == set()


def test_what_is_due_of_several_runs_goes_through_one_engine_together() -> None:
    for module, extra in (("onnxruntime", "demo"), ("av", "demo")):
        require_package(module, extra)
    question = np.concatenate(list(decoded(QUESTION, RATE, RATE)))
    pipeline = Pipeline("heard")
    pipeline.add("ears", Ears, model="fastconformer-en-4m")
    pipeline.worker("pool", shared=True)
    pipeline.place("ears", worker="pool")

    async def heard(run: Run, *, whole: bool) -> list[str]:
        cuts = [question] if whole else np.array_split(question, 50)
        for number, piece in enumerate([*cuts, question[:0]]):
            event = SpeechEvent.CONTINUE if number else SpeechEvent.START
            last = number == len(cuts)
            audio = AudioChunk(samples=piece, rate=RATE)
            speech = Speech(audio=audio, event=SpeechEvent.END if last else event, speech_end_ns=0 if last else None)
            await run.send("ears.speech", speech, epoch=1)
        finals = []
        async for packet in run.packets("ears.transcript"):
            assert isinstance(packet.payload, Transcript)
            if packet.payload.final:
                finals.append(packet.payload.text)
                break
        return finals

    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S), pipeline.run() as run:
            alone = await heard(run, whole=False)
        async with asyncio.timeout(PATIENCE_S), AsyncExitStack() as stack:
            runs = [await stack.enter_async_context(pipeline.run()) for _ in range(3)]
            assert await asyncio.gather(*(heard(run, whole=True) for run in runs)) == [alone] * 3
            stats = await runs[0].stats_of("pool")
            assert stats is not None
            assert stats["stages"]["ears"]["counts"]["together"] > 1

    asyncio.run(main())


def order() -> Order:
    plan = WorkerPlan(name="pool", launcher="ray", stages=("stage",), shared=True)
    bundle = Bundle(main="a", files={"a": ""}, settings={}, token="")
    return Order(worker=plan, bundle=bundle, on_problem=lambda _: None)


def test_a_worker_that_is_still_being_found_is_gone_to_those_who_ask_it() -> None:
    with pytest.raises(WorkerLost):
        asyncio.run(SharedActor(order()).call("me", "stats"))
