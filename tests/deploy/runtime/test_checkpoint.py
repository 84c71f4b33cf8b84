"""A checkpoint costs what the state is, not what the run was; and nothing of the report is lost by that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from thalweg.deploy.runtime.checkpoint import CheckpointJournal, KeptCheckpoint, restore_checkpoint, take_checkpoint
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import Context
from thalweg.transports.state import pack_state, unpack_state


class Source:
    """Gives nothing."""

    outputs = {"text": Token}

    async def run(self, ctx: Context) -> None:
        pass


class Sink:
    """Takes what comes."""

    inputs = {"text": Token}

    def process(self, packet: Packet, ctx: Context) -> None:
        pass


def worker_of(turns: int = 10_000) -> Worker:
    graph = Graph()
    graph.add("source", Source())
    graph.add("sink", Sink())
    graph.connect("source", "sink")
    return Worker(graph, turns=turns)


def say(worker: Worker, epoch: int, text: str = "word ", *, last: bool = False) -> None:
    payload = Token(text=text, last=last)
    worker.turns.observe(Packet(stream="source.text", seq=0, time=epoch, payload=payload, epoch=epoch), epoch)


def taken(worker: Worker, journal: CheckpointJournal) -> tuple[bytes, bytes]:
    checkpoint = take_checkpoint(worker, journal)
    assert checkpoint is not None
    return checkpoint.packed, checkpoint.news


@pytest.mark.parametrize("turns", [10, 10_000, 100_000])
def test_what_is_written_at_a_checkpoint_does_not_grow_with_the_turns_there_were(turns: int) -> None:
    worker = worker_of()
    journal = CheckpointJournal(worker)
    for epoch in range(1, turns + 1):
        say(worker, epoch, last=True)
    taken(worker, journal)
    journal.safe()
    say(worker, turns + 1)
    packed, news = taken(worker, journal)
    assert len(packed) < 300
    assert [turn["epoch"] for turn in unpack_state(news)["turns"]] == [turns + 1]


def test_a_worker_that_goes_on_from_checkpoints_reports_all_that_there_was() -> None:
    async def main() -> None:
        worker, kept = worker_of(), KeptCheckpoint(10_000)
        worker.on_problem = lambda _: None
        journal = CheckpointJournal(worker)
        for epoch in range(1, 6):
            say(worker, epoch)
            worker.failed(worker.actors["sink"], f"no {epoch}", None, None)
            kept.take(*taken(worker, journal))
            if epoch % 2:  # not every one is known to be safe when the next is taken
                journal.safe()
            say(worker, epoch, last=True)
        kept.take(*taken(worker, journal))
        again = worker_of()
        packed = kept.packed()
        assert packed is not None
        restore_checkpoint(again, packed)
        assert again.turns.turns == worker.turns.turns
        assert (again.problems, again.problem_count) == (worker.problems, worker.problem_count)
        news = unpack_state(taken(again, CheckpointJournal(again))[1])
        assert news["turns"] == news["problems"] == []

    asyncio.run(main())


def test_of_what_the_report_gains_the_newest_turns_are_kept() -> None:
    worker, kept = worker_of(turns=3), KeptCheckpoint(3)
    journal = CheckpointJournal(worker)
    for epoch in range(1, 8):
        say(worker, epoch)
        kept.take(*taken(worker, journal))
        journal.safe()
    again, packed = worker_of(turns=3), kept.packed()
    assert packed is not None
    restore_checkpoint(again, packed)
    assert (list(again.turns.turns), again.turns.forgotten) == ([5, 6, 7], 4)


def test_a_checkpoint_of_a_version_that_kept_everything_in_one_is_read() -> None:
    worker = worker_of()
    journal = CheckpointJournal(worker)
    say(worker, 1)
    packed, news = taken(worker, journal)
    told: dict[str, Any] = unpack_state(news)
    old = unpack_state(packed) | {"turns": told["turns"], "problems": [], "problem_count": 7}
    again = worker_of()
    restore_checkpoint(again, pack_state(old))
    assert (again.turns.turns, again.problem_count) == (worker.turns.turns, 7)
