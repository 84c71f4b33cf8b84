"""How a stage is moved for real: a lender in a process of its own, mutual TLS, and what is done to it or to the link.

A number every 100 ms, due 250 ms after; the stage adds them up in 40 ms here and 5 ms there. `killed`: SIGKILL to the
lender and its worker while they have the stage. `stopped`: SIGSTOP. `cut`, `cut one way`: the link holds back what is
sent, both ways or only towards the lender. From then to the next result of a number made since; and what of the sum was
lost or counted twice, over all of it. Dwell and hold are shortened there (1 s, 0.3 s), so that each takes seconds:
they have no part in coming home. `flapping`: the stage has been there for ten seconds, then 4 s without a link, 4 s
with it and so on, by the rule as it is.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from thalweg.deploy.bench.fleet.cloud import LENT, PLACE, Cable, Cloud
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.cluster.host import make_worker
from thalweg.deploy.fleet.placing import follow
from thalweg.deploy.fleet.placing.placed import PlacedStage
from thalweg.deploy.runtime.tasks import beside
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.file.spec import load_spec
from thalweg.pipeline.fleet.agent_socket import NODE
from thalweg.pipeline.fleet.moving.placement import Rule

S = 1_000_000_000
QUICK = replace(follow.RULE, hold_ns=3 * S // 10, urgent_ns=3 * S // 10, dwell_ns=S)
PATIENCE_S, STEADY_S = 120.0, 10.0
FILE = """
name: moving
stages:
  numbers: {{use: "counting:Steady", gap_ms: {gap_ms}, deadline: 250ms}}
  adder: {{use: "counting:Adder", ballast: {ballast}}}
  noted: {{use: "counting:Noted"}}
connections:
  - numbers -> adder
  - adder -> noted
placement:
  adder:
    edge: {{set: {{work_ms: {here_ms}}}}}
    fog: {{set: {{work_ms: {there_ms}}}}}
"""


class Moving:
    """A pipeline of which one stage moves, while the block of `running` runs."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        stage = worker.actors["adder"].stage
        assert isinstance(stage, PlacedStage)
        self.stage = stage

    @property
    def results(self) -> list[tuple[int, int, str]]:
        """(capture, arrival, text) of every result so far."""
        found: list[tuple[int, int, str]] = importlib.import_module("counting").Noted.results
        return found

    @property
    def place(self) -> str:
        """Where the stage is."""
        return "edge" if self.stage.away is None else self.stage.away.place

    async def until(self, condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
        """Raises TimeoutError."""
        until_s = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > until_s:
                raise TimeoutError(f"it did not come to pass within {within_s:g} s; the stage is at {self.place}")
            await asyncio.sleep(0.01)

    async def until_at(self, place: str) -> None:
        """Until the stage is there, and a result has come from there."""
        await self.until(lambda: self.place == place)
        before = len(self.results)
        await self.until(lambda: len(self.results) > before + 1)

    async def next_result_ms(self, since_ns: int) -> float:
        """From `since_ns` to the first result of a number made since."""

        def first() -> int | None:
            return next((done for made, done, _ in self.results if made >= since_ns), None)

        await self.until(first)
        found = first()
        assert found is not None
        return (found - since_ns) / 1e6

    def wrong(self) -> int:
        """Results that do not follow from the one before: a number was taken and its result lost, came out twice, or
        the state lost it or had it twice. Numbers that were overdue before the stage took them are no part of that.
        """
        found = [tuple(map(int, text.split()[:3])) for _, _, text in self.results]
        before = [(-1, 0, 0), *found[:-1]]
        return sum(
            number <= last or count != counted + 1 or total != so_far + number
            for (last, counted, so_far), (number, count, total) in zip(before, found, strict=True)
        )


@asynccontextmanager
async def running(
    node_folder: Path,
    rule: Rule = QUICK,
    *,
    gap_ms: float = 100,
    here_ms: float = 40,
    there_ms: float = 5,
    ballast: int = 0,
) -> AsyncIterator[Moving]:
    """On a node of its own folder, with this rule of placement. `ballast`: bytes that the state has besides."""
    before, node = follow.RULE, os.environ.get(NODE)
    follow.RULE, os.environ[NODE] = rule, str(node_folder / "intake.sock")
    sys.path.insert(0, str(LENT))
    try:
        spec = load_spec(FILE.format(gap_ms=gap_ms, here_ms=here_ms, there_ms=there_ms, ballast=ballast))
        worker = make_worker("local", spec)
        async with beside(worker.run()) as run:
            moving = Moving(worker)
            try:
                yield moving
            finally:
                worker.stop()
                async with asyncio.timeout(PATIENCE_S):
                    await run
    finally:
        sys.path.remove(str(LENT))
        follow.RULE = before
        if node is None:
            del os.environ[NODE]
        else:
            os.environ[NODE] = node


def measure(result: Result, quick: bool) -> None:
    """Add the rows of each way to lose a lent worker."""
    times = 2 if quick else 12
    cases: dict[str, Callable[[Cloud, Cable], None]] = {
        "killed": lambda cloud, cable: cloud.signal(signal.SIGKILL),
        "stopped": lambda cloud, cable: cloud.signal(signal.SIGSTOP),
        "cut": lambda cloud, cable: cable.cut(),
        "cut one way": lambda cloud, cable: cable.cut("up"),
    }
    result.rounds.expect(len(cases))
    logging.getLogger("thalweg.deploy.fleet.placing").setLevel(logging.ERROR)
    for name, harm in cases.items():
        found, wrong = result.rounds.ours(f"moved {name}", partial(asyncio.run, _lost(harm, times)), 600)
        result.add(
            f"moved: {name}", OURS, len(found), "ms", next_p50=quantile(found, 0.5), next_p95=quantile(found, 0.95)
        )
        result.add(f"moved: {name}", OURS, len(found), "1", wrong=wrong)


def measure_flapping(result: Result, quick: bool) -> None:
    """Add the rows of a link that comes and goes."""
    logging.getLogger("thalweg.deploy.fleet.placing").setLevel(logging.ERROR)
    seconds = 32 if quick else 120
    most, all_of_them, wrong = result.rounds.ours("moved flapping", partial(asyncio.run, _flapping(seconds)), 600)
    result.add("moved: flapping", OURS, seconds // 8, "1", most_in_10_s=most, switches=all_of_them, wrong=wrong)


@asynccontextmanager
async def _over_a_cable(rule: Rule) -> AsyncIterator[tuple[Moving, Cloud, Cable]]:
    with tempfile.TemporaryDirectory() as folder:
        cloud = Cloud(Path(folder))
        try:
            async with Cable(cloud.port).laid() as cable:
                cloud.tell(cable.port)
                cloud.start()
                async with running(cloud.node, rule) as moving:
                    yield moving, cloud, cable
        finally:
            cloud.end()


async def _lost(harm: Callable[[Cloud, Cable], None], times: int) -> tuple[list[float], int]:
    async with _over_a_cable(QUICK) as (moving, cloud, cable):
        found = [await _once(moving, cloud, cable, harm, number) for number in range(times)]
    return found, moving.wrong()


async def _once(moving: Moving, cloud: Cloud, cable: Cable, harm: Callable[[Cloud, Cable], None], number: int) -> float:
    await moving.until_at(PLACE)
    await asyncio.sleep(0.5 + 0.037 * (number % 3))  # not in step with the numbers
    since_ns = time.monotonic_ns()
    harm(cloud, cable)
    took_ms = await moving.next_result_ms(since_ns)
    await asyncio.sleep(0.5)
    cloud.end()
    cable.mend()
    cloud.start()
    return took_ms


async def _flapping(seconds: float) -> tuple[int, int, int]:
    moves: list[float] = []
    async with _over_a_cable(follow.RULE) as (moving, _, cable), beside(_note(moving, moves)):
        await moving.until_at(PLACE)
        await asyncio.sleep(STEADY_S)
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            cable.cut()
            await asyncio.sleep(4)
            cable.mend()
            await asyncio.sleep(4)
    return most_within(moves, 10.0), len(moves), moving.wrong()


async def _note(moving: Moving, moves: list[float]) -> Awaitable[Any]:
    before = moving.place
    while True:
        if moving.place != before:
            before = moving.place
            moves.append(time.monotonic())
        await asyncio.sleep(0.01)


def most_within(moves: list[float], span_s: float) -> int:
    """The most of these moments that lie within any span of so many seconds."""
    return max((sum(begin <= other < begin + span_s for other in moves) for begin in moves), default=0)
