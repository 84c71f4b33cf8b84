"""Watching a pipeline run: a table in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from rich.live import Live
from rich.table import Table

from thalweg.deploy.console import Console
from thalweg.deploy.ops.observing.readings import Reading, Readings, Stats
from thalweg.deploy.runtime.tasks import beside

log = logging.getLogger(__name__)

REFRESH_S = 0.25
LINE_S = 10.0


@asynccontextmanager
async def live_view(read: Callable[[], Awaitable[Stats]], console: Console, table: bool) -> AsyncIterator[None]:
    """Show what `read` says of the workers until the block ends."""
    async with beside(_watch(read, console, table)):
        yield


async def _watch(read: Callable[[], Awaitable[Stats]], console: Console, table: bool) -> None:
    """A run goes on when its picture cannot be drawn any more."""
    try:
        await _draw(read, console, table)
    except Exception:
        log.warning("the view of the run has ended", exc_info=True)


async def _draw(read: Callable[[], Awaitable[Stats]], console: Console, table: bool) -> None:
    readings = Readings()
    started_s = asyncio.get_running_loop().time()
    if not table:
        while True:
            await asyncio.sleep(LINE_S)
            ran_s = asyncio.get_running_loop().time() - started_s
            console.say((line_of(readings.read(await read()), ran_s), "dim"))
    with Live(Table.grid(), console=console, auto_refresh=False, transient=True) as live:
        while True:
            await asyncio.sleep(REFRESH_S)
            live.update(table_of(readings.read(await read())), refresh=True)


def table_of(reading: Reading) -> Table:
    """One row per stage; which worker it is in, where there are several."""
    several = len(reading.workers) > 1
    table = Table(box=None, pad_edge=False)
    for column in ("stage", *(["worker"] * several), "units/s", "p50 ms", "p95 ms", "queue", "dropped"):
        table.add_column(column, justify="left" if column in ("stage", "worker") else "right")
    for s in reading.stages:
        place = [s.worker] * several
        numbers = (f"{s.rate:.1f}", f"{s.p50_ms:.2f}", f"{s.p95_ms:.2f}", str(s.queue), str(s.dropped))
        table.add_row(s.stage, *place, *numbers)
    return table


def line_of(reading: Reading, ran_s: float) -> str:
    """What each stage has done so far; replicas of a stage together."""
    units: dict[str, int] = {}
    for stage in reading.stages:
        units[stage.stage] = units.get(stage.stage, 0) + stage.units
    done = ", ".join(f"{stage} {count}" for stage, count in units.items() if count)
    dropped = sum(sum(channel.drops.values()) for channel in reading.channels)
    done = done or "nothing yet"
    return f"{ran_s:.0f} s: {done}; dropped {dropped}, errors {sum(worker.problems for worker in reading.workers)}"
