"""Pipelines built in Python, and runs that a program holds."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import Field

import thalweg
from thalweg import AMBIENT, AudioChunk, Interrupt, Packet, Pipeline, Token
from thalweg.errors import DumpError, EndError, GraphError, RunError, SpecError, StageError, StartError

pytestmark = pytest.mark.filterwarnings("error")


def chunk(level: float = 0.1) -> AudioChunk:
    return AudioChunk(samples=np.full(160, level, np.float32), rate=16_000)


class Louder:
    """Makes audio louder, and says in which process."""

    inputs = {"audio": AudioChunk}
    outputs = {"audio": AudioChunk, "where": Token}
    configurable = ("gain",)

    def __init__(self, gain: Annotated[float, Field(gt=0)] = 2.0) -> None:
        self.gain = gain

    def configure(self, settings: dict[str, Any]) -> None:
        self.gain = settings["gain"]

    def process(self, packet: Packet[AudioChunk], ctx: thalweg.Context) -> None:
        if packet.payload.samples[0] < 0:
            raise ValueError("negative")
        ctx.emit(AudioChunk(samples=packet.payload.samples * self.gain, rate=packet.payload.rate), port="audio")
        ctx.emit(Token(text=str(os.getpid())), port="where")


class Unopenable(Louder):
    """Cannot be opened."""

    def open(self, ctx: thalweg.Context) -> None:
        raise OSError("no such device")


class Counting:
    """Counts up for ever."""

    outputs = {"token": Token}

    async def run(self, ctx: thalweg.Context) -> None:
        i = 0
        while True:
            await ctx.send(Token(text=str(i)), time=ctx.now_ns(), epoch=1)
            i += 1


def louder(**settings: Any) -> Pipeline:
    pipeline = Pipeline("loud")
    pipeline.add("louder", Louder, **settings)
    return pipeline


async def levels(run: thalweg.Run, n: int) -> list[float]:
    """The next levels that come out."""
    found: list[float] = []
    async for packet in run.packets("louder.audio"):
        found.append(round(float(packet.payload.samples[0]), 3))
        if len(found) == n:
            break
    return found


@pytest.mark.real
@pytest.mark.parametrize("worker", ["local", "ears"])
def test_a_program_sends_into_a_pipeline_and_reads_what_comes_out_wherever_the_stage_runs(worker: str) -> None:
    async def main() -> tuple[list[float], set[str]]:
        pipeline = louder(gain=3.0)
        pipeline.place("louder", worker=worker)
        pipeline.expose("louder.audio")
        async with asyncio.timeout(60), pipeline.run() as run:
            for i in range(3):
                await run.send("louder.audio", chunk(0.1 * (i + 1)))
            heard = await levels(run, 3)
            await run.finish()
            return heard, {packet.payload.text async for packet in run.packets("louder.where")}

    heard, pids = asyncio.run(main())
    assert heard == [0.3, 0.6, 0.9]
    assert (pids == {str(os.getpid())}) == (worker == "local")


@pytest.mark.real
@pytest.mark.parametrize("worker", ["local", "ears"])
def test_a_running_stage_is_configured_on_the_worker_that_has_it(worker: str) -> None:
    async def main() -> list[float]:
        pipeline = louder()
        pipeline.place("louder", worker=worker)
        pipeline.expose("louder.audio")
        async with asyncio.timeout(60), pipeline.run() as run:
            await run.send("louder.audio", chunk())
            before = await levels(run, 1)
            await run.configure("louder", gain=5.0)
            await run.send("louder.audio", chunk())
            return before + await levels(run, 1)

    assert asyncio.run(main()) == [0.2, 0.5]


def test_leaving_the_block_ends_a_source_that_never_would() -> None:
    async def main() -> thalweg.Run:
        pipeline = Pipeline()
        pipeline.add("counting", Counting)
        async with asyncio.timeout(30), pipeline.run() as run:
            async for packet in run.packets("counting.token"):
                if packet.seq > 100:
                    break
        return run

    run = asyncio.run(main())
    assert run.outcome is not None
    assert run.outcome.stopped


def test_an_error_of_the_program_gives_the_run_up_and_stays_what_it_was() -> None:
    async def main() -> None:
        pipeline = Pipeline()
        pipeline.add("counting", Counting)
        async with asyncio.timeout(30), pipeline.run():
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(main())


def test_a_reader_holds_up_the_pipeline_and_nothing_is_dropped_on_it() -> None:
    async def main() -> list[int]:
        pipeline = Pipeline()
        pipeline.add("counting", Counting)
        found = []
        async with asyncio.timeout(60), pipeline.run() as run:
            async for packet in run.packets("counting.token"):
                found.append(packet.seq)
                if len(found) == 2000:
                    return found
        return found

    found = asyncio.run(main())
    assert found == list(range(found[0], found[0] + 2000))


def test_what_nobody_reads_is_counted_and_the_newest_stays() -> None:
    async def main() -> tuple[list[int], dict[str, int]]:
        pipeline = louder()
        async with asyncio.timeout(30), pipeline.run() as run:
            for _ in range(20):
                await run.send("louder.audio", chunk())
            outcome = await run.finish()
            kept = [packet.seq async for packet in run.packets("louder.audio")]
            return kept, outcome.stages["program-from-louder-audio"]["counts"]

    kept, counts = asyncio.run(main())
    assert kept == list(range(12, 20))
    assert counts["unread"] == 12


def test_a_stage_that_cannot_be_opened_raises_on_entering() -> None:
    async def main() -> None:
        pipeline = Pipeline()
        pipeline.add("louder", Unopenable)
        async with pipeline.run():
            pytest.fail("it was entered")

    with pytest.raises(StartError, match="stage louder: no such device"):
        asyncio.run(main())


def test_what_a_stage_fails_on_is_told_as_it_happens_and_the_run_goes_on() -> None:
    async def main() -> tuple[list[str], list[float]]:
        told: list[str] = []
        async with asyncio.timeout(30), louder().run(on_problem=lambda p: told.append(p.message)) as run:
            await run.send("louder.audio", chunk(-1.0))
            await run.send("louder.audio", chunk())
            return told, await levels(run, 1)

    assert asyncio.run(main()) == (["ValueError: negative"], [0.2])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda p: p.add("a", "speech.vadd"), r"no stage 'speech.vadd' \(did you mean 'speech.vad'\?\)"),
        (lambda p: p.add("a", Louder, gian=1.0), r"no parameter 'gian' \(did you mean 'gain'\?\)"),
        (lambda p: p.add("a", Louder, gain=-1.0), "gain: Input should be greater than 0, found -1.0"),
        (lambda p: p.add("louder", Louder), "there are two stages named 'louder'"),
        (lambda p: p.add("a", Louder(), gain=1.0), "is an instance"),
        (lambda p: p.connect("louder"), "takes two stages or more"),
        (lambda p: p.connect("loud", "louder"), r"no stage 'loud' \(did you mean 'louder'\?\)"),
        (lambda p: p.place("loud", worker="x"), r"no stage 'loud' \(did you mean 'louder'\?\)"),
        (lambda p: p.expose("louder.audioo"), r"no output 'louder.audioo' \(did you mean 'louder.audio'\?\)"),
    ],
)
def test_a_mistake_is_said_where_it_is_made(wrong: Any, message: str) -> None:
    with pytest.raises(thalweg.ThalwegError, match=message):
        wrong(louder())


def test_what_only_the_whole_can_tell_names_the_line_of_the_program_that_said_it() -> None:
    pipeline = louder()
    pipeline.worker("ears", launcher="subprocess", restrat="never")
    with pytest.raises(SpecError, match=r"test_pipeline.py:\d+:1: .*'restrat' \(did you mean 'restart'\?\)"):
        pipeline.check()


def test_an_instance_stays_in_this_process_and_cannot_be_written_down() -> None:
    pipeline = Pipeline()
    pipeline.add("louder", Louder(gain=2.0))
    with pytest.raises(GraphError, match="cannot run on worker ears: it was given as an instance"):
        pipeline.place("louder", worker="ears")
    with pytest.raises(GraphError, match="cannot be written down"):
        pipeline.to_yaml()


def test_an_instance_was_made_from_whatever_its_class_wants() -> None:
    class Scaled(Louder):
        def __init__(self, factors: dict[str, float], *more: float) -> None:
            self.gain = sum(factors.values()) + sum(more)

    pipeline = Pipeline()
    pipeline.add("louder", Scaled({"a": 1.0}, 2.0))
    pipeline.check()


def test_a_class_within_a_function_is_refused_elsewhere_with_the_reason() -> None:
    class Local(Louder):
        pass

    pipeline = Pipeline()
    pipeline.add("louder", Local)
    with pytest.raises(GraphError, match="defined inside a function"):
        pipeline.place("louder", worker="ears")


def test_the_file_of_a_pipeline_reads_as_the_same_pipeline(tmp_path: Path) -> None:
    pipeline = Pipeline("written", description="costs ${5}", latency_budget="900ms")
    pipeline.add("file", "audio.file", path=tmp_path / "a: #b.wav", pace="full")
    pipeline.add("vad", "speech.vad", silence="200ms")
    pipeline.connect("file", "vad", policy="drop_oldest", capacity=3)
    pipeline.worker("ears", restart="on_failure")
    pipeline.place("vad", worker="ears")
    written = tmp_path / "written.yaml"
    written.write_text(pipeline.to_yaml(), encoding="utf-8")
    again = thalweg.load(written)
    assert again.to_yaml() == pipeline.to_yaml()
    assert [c.name for c in again.graph.connections] == ["file.audio -> vad.audio"]
    assert again.graph.connections[0].capacity == 3


def test_a_setting_that_no_file_can_say_is_named() -> None:
    pipeline = Pipeline()
    pipeline.add("kept", Keeping, what=object())
    with pytest.raises(DumpError, match=r"stages\.kept\.what is a object, which a pipeline file cannot say"):
        pipeline.to_yaml()


def test_payloads_of_another_type_and_ports_the_program_does_not_hold_are_refused() -> None:
    async def main() -> None:
        pipeline = louder()
        pipeline.add("after", Louder)
        pipeline.connect("louder.audio", "after")
        async with asyncio.timeout(30), pipeline.run() as run:
            with pytest.raises(StageError, match=r"louder\.audio takes AudioChunk, found Token"):
                await run.send("louder.audio", Token(text="x"))
            with pytest.raises(RunError, match=r"no output 'louder.audio'.*pipeline.expose\('louder.audio'\)"):
                run.packets("louder.audio")
            await run.finish()
            with pytest.raises(EndError, match="has ended"):
                await run.send("louder.audio", chunk())

    asyncio.run(main())


def test_what_an_interrupt_overtakes_is_not_read() -> None:
    class Talk:
        outputs = {"token": Token}

        async def run(self, ctx: thalweg.Context) -> None:
            await ctx.send(Token(text="old"), time=0, epoch=1)
            await asyncio.sleep(0.05)
            ctx.signal(Interrupt(origin="talk", epoch=2))
            await ctx.send(Token(text="new"), time=0, epoch=2)

    async def main() -> list[str]:
        pipeline = Pipeline()
        pipeline.add("talk", Talk())
        async with asyncio.timeout(30), pipeline.run() as run:
            await run.finish()
            return [packet.payload.text async for packet in run.packets("talk.token")]

    assert asyncio.run(main()) == ["new"]


def test_several_runs_of_one_pipeline_in_one_loop_do_not_meet() -> None:
    async def one(pipeline: Pipeline, level: float) -> list[float]:
        async with pipeline.run() as run:
            await run.send("louder.audio", chunk(level))
            return await levels(run, 1)

    async def main() -> list[list[float]]:
        pipeline = louder()
        async with asyncio.timeout(30):
            return await asyncio.gather(*(one(pipeline, level) for level in (0.1, 0.2, 0.3)))

    assert asyncio.run(main()) == [[0.2], [0.4], [0.6]]


class Keeping(Louder):
    """Has a setting of any kind."""

    def __init__(self, what: Any) -> None:
        super().__init__()


class Once:
    """One token, then the end."""

    outputs = {"token": Token}

    async def run(self, ctx: thalweg.Context) -> None:
        await ctx.send(Token(text="one"), time=ctx.now_ns(), epoch=AMBIENT)


def test_run_sync_works_also_inside_a_running_loop_as_in_a_notebook() -> None:
    pipeline = Pipeline()
    pipeline.add("once", Once)

    async def cell() -> int:
        return int(pipeline.run_sync().stages["program-from-once-token"]["units"])

    assert pipeline.run_sync().unharmed
    assert asyncio.run(cell()) == 1


def test_the_public_names_are_one_screen_and_all_there() -> None:
    assert len(thalweg.__all__) <= 40
    assert all(hasattr(thalweg, name) for name in thalweg.__all__)
