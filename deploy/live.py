"""Watching a pipeline run: a table in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from thalweg.deploy.worker import Worker

REFRESH_S = 0.25
LINE_S = 10.0


@contextmanager
def live_view(worker: Worker, console: Console, loop: asyncio.AbstractEventLoop, table: bool) -> Iterator[None]:
    """Show `worker` until the block ends, driven by timers of `loop`."""
    view = _Rates(worker)
    live = Live(view.table(), console=console, auto_refresh=False, transient=True) if table else None
    timer: asyncio.TimerHandle

    def tick() -> None:
        nonlocal timer
        if live is not None:
            live.update(view.table(), refresh=True)
        else:
            console.print(f"[dim]{view.line()}[/]", soft_wrap=True)
        timer = loop.call_later(REFRESH_S if table else LINE_S, tick)

    timer = loop.call_later(REFRESH_S if table else LINE_S, tick)
    try:
        if live is None:
            yield
        else:
            with live:
                yield
    finally:
        timer.cancel()


class _Rates:
    """Turns counts into rates since the last look."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._seen: dict[str, int] = {}
        self._seen_ns = worker.clock.now_ns()

    def table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for column in ("stage", "units/s", "p50 ms", "p95 ms", "queue", "dropped"):
            table.add_column(column, justify="left" if column == "stage" else "right")
        now_ns = self._worker.clock.now_ns()
        seconds = max(1e-3, (now_ns - self._seen_ns) / 1e9)
        self._seen_ns = now_ns
        for actor in self._worker.actors.values():
            rate = (actor.units - self._seen.get(actor.name, 0)) / seconds
            self._seen[actor.name] = actor.units
            stats = [edge.channel.stats for edge in actor.inputs]
            table.add_row(
                actor.name,
                f"{rate:.1f}",
                f"{actor.work.quantile(0.5) / 1e6:.2f}",
                f"{actor.work.quantile(0.95) / 1e6:.2f}",
                str(sum(s.depth for s in stats)),
                str(sum(sum(s.drops.values()) for s in stats)),
            )
        return table

    def line(self) -> str:
        ran_s = (self._worker.clock.now_ns() - self._worker.started_ns) / 1e9
        units = ", ".join(f"{a.name} {a.units}" for a in self._worker.actors.values() if a.units)
        dropped = sum(sum(edge.channel.stats.drops.values()) for edge in self._worker.edges)
        return f"{ran_s:.0f} s: {units}; dropped {dropped}, errors {self._worker.problem_count}"
