"""Prometheus metrics of every worker, in one place: read from the workers when they are scraped (docs/metrics.md).

The process that launched the workers serves them all, each with its name as the label `worker`: one address to
scrape, however many workers there are and wherever Ray has put them, and no open port on any of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from thalweg.deploy.ops.observing.families import (
    MetricsError,
    counter,
    encoded,
    fill,
    gauge,
    histogram,
    info,
    need_metrics,
)
from thalweg.deploy.ops.observing.turn_ledger import TurnLedger
from thalweg.pipeline.observing.histogram import Histogram

if TYPE_CHECKING:
    from prometheus_client import Metric

    from thalweg.deploy.ops.observing.readings import Stats

PORT = 9464  # what OpenTelemetry's exporters for Prometheus take by default
READ_S = 3.0
Read = Callable[[], Awaitable[tuple["Stats", Mapping[str, int]]]]
"""What workers say of themselves, and how often each was restarted."""


class Exporter:
    """What is told at every scrape."""

    def __init__(self, pipeline: str, read: Read, loop: asyncio.AbstractEventLoop) -> None:
        self._pipeline = pipeline
        self._read = read
        self._loop = loop
        self._ledger = TurnLedger()

    async def told(self, accepted: str) -> tuple[bytes, str]:
        """Every family there is, in the format that is asked for. Raises Refused."""
        from thalweg.deploy.door.refused import Refused

        try:
            async with asyncio.timeout(READ_S + 1):
                stats, restarts = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._now(), self._loop))
        except Exception:
            raise Refused(503, "workers", "The workers do not answer.") from None
        self._ledger.update(stats)
        found = families(stats, restarts, self._ledger)
        return encoded([info(self._pipeline), *found], accepted)

    async def _now(self) -> tuple[Stats, Mapping[str, int]]:
        async with asyncio.timeout(READ_S):
            return await self._read()


def families(stats: Stats, restarts: Mapping[str, int], ledger: TurnLedger) -> Iterator[Metric]:
    """Workers, their stages and channels, and turns, of one pipeline."""
    yield from worker_families(stats, restarts)
    yield from turn_families(ledger.started, ledger.outcomes, ledger.latencies)


def worker_families(stats: Stats, restarts: Mapping[str, int]) -> Iterator[Metric]:
    """Workers, their stages and their channels."""
    yield from _workers(stats, restarts)
    yield from _stages(stats)
    yield from _channels(stats)


def _workers(stats: Stats, restarts: Mapping[str, int]) -> Iterator[Metric]:
    up = gauge("thalweg_worker_up", "1 where the worker answers", "worker")
    again = counter("thalweg_worker_restarts", "Times the worker was started again", "worker")
    cpu = counter("thalweg_worker_cpu_seconds", "CPU time of the worker's process", "worker")
    resident = gauge("thalweg_worker_resident_bytes", "Resident memory of the worker's process", "worker")
    files = gauge("thalweg_worker_open_files", "Open file descriptors of the worker's process", "worker")
    for name, found in stats.items():
        up.add_metric([name], int(found is not None))
        again.add_metric([name], restarts.get(name, 0))
        if found is not None:
            cpu.add_metric([name], found["cpu_s"])
            resident.add_metric([name], found["resident_bytes"])
            files.add_metric([name], found["open_files"])
    yield from (up, again, cpu, resident, files)


def _stages(stats: Stats) -> Iterator[Metric]:
    labels = ("worker", "stage", "use")
    units = counter("thalweg_stage_units", "Units the stage has worked on", *labels)
    busy = counter("thalweg_stage_busy_seconds", "Time the stage has worked", *labels)
    failures = counter("thalweg_stage_failures", "Packets lost to the stage's failures", *labels)
    counts = counter("thalweg_stage_counts", "What the stage itself has counted, by kind", *labels, "kind")
    duration = histogram("thalweg_stage_unit_duration_seconds", "Time per unit", *labels)
    for name, found in stats.items():
        for stage, told in found["stages"].items() if found is not None else ():
            values = [name, stage, told["use"]]
            work = Histogram.from_plain(told["work"])
            units.add_metric(values, told["units"])
            busy.add_metric(values, work.total_ns / 1e9)
            failures.add_metric(values, told["failures"])
            for kind, count in told["counts"].items():
                counts.add_metric([*values, kind], count)
            fill(duration, values, work)
    yield from (units, busy, failures, counts, duration)


def _channels(stats: Stats) -> Iterator[Metric]:
    labels = ("worker", "channel", "side")
    depth = gauge("thalweg_channel_depth", "Packets that wait", *labels)
    capacity = gauge("thalweg_channel_capacity", "Packets that may wait", *labels)
    pushed = counter("thalweg_channel_pushed", "Packets that were put in", *labels)
    popped = counter("thalweg_channel_popped", "Packets that were taken out", *labels)
    dropped = counter("thalweg_channel_dropped", "Packets that were dropped, by reason", *labels, "reason")
    age = histogram("thalweg_channel_age_seconds", "Age of packets, from capture, when they were taken", *labels)
    for name, found in stats.items():
        for channel, told in found["channels"].items() if found is not None else ():
            values = [name, channel, told["side"]]
            depth.add_metric(values, told["depth"])
            capacity.add_metric(values, told["capacity"])
            pushed.add_metric(values, told["pushed"])
            popped.add_metric(values, told["popped"])
            for reason, count in told["drops"].items():
                dropped.add_metric([*values, reason], count)
            fill(age, values, Histogram.from_plain(told["age"]))
    yield from (depth, capacity, pushed, popped, dropped, age)


def turn_families(
    started_count: int, outcomes: Mapping[str, int], latencies: Mapping[str, Histogram]
) -> Iterator[Metric]:
    """Turns; `latencies` by milestone."""
    started = counter("thalweg_turns_started", "Turns that began")
    started.add_metric([], started_count)
    ended = counter("thalweg_turns", "Turns by how they went: complete, interrupted, failed", "outcome")
    for outcome, count in outcomes.items():
        ended.add_metric([outcome], count)
    latency = histogram(
        "thalweg_turn_latency_seconds", "From the end of speech to each milestone, 0 where it came before", "milestone"
    )
    for milestone, counted in latencies.items():
        fill(latency, [milestone], counted)
    yield from (started, ended, latency)


@contextmanager
def serving_metrics(address: str | None, pipeline: str, read: Read) -> Iterator[str]:
    """Serve metrics of `pipeline` at `[HOST:]PORT` while the block runs; gives their URL. Without an address it does
    nothing.

    To be entered on the event loop that `read` is to run on. Loopback unless a host is given: any client that can
    connect may read them. Port 0: any free port. Raises MetricsError where it cannot listen.
    """
    if address is None:
        yield ""
        return
    host, port = parse_address(address)
    need_metrics()
    try:
        from aiohttp import web

        from thalweg.deploy.door.front_door import DoorSettings, FrontDoor
        from thalweg.deploy.door.listening import listening_apart
        from thalweg.deploy.door.names import told_names
    except ImportError:
        raise MetricsError("metrics need a package that is missing: pip install 'thalweg[metrics]'") from None
    exporter = Exporter(pipeline, read, asyncio.get_running_loop())

    async def metrics(request: web.Request) -> web.StreamResponse:
        body, kind = await exporter.told(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": kind})

    door = FrontDoor(DoorSettings(host_names=told_names()))
    application = door.application()
    application.add_routes([web.get("/metrics", metrics), web.get("/", metrics)])
    with ExitStack() as stack:
        try:
            found = stack.enter_context(listening_apart(door, application, host, port))
        except OSError as error:
            reason = error.strerror or error
            raise MetricsError(
                f"cannot serve metrics at {host}:{port}: {reason}; give another address with --metrics"
            ) from None
        yield f"http://{f'[{host}]' if ':' in host else host}:{found}/metrics"


def parse_address(text: str) -> tuple[str, int]:
    """`9464` or `0.0.0.0:9464` → host, port. Raises MetricsError."""
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise MetricsError(f"--metrics {text}: expected PORT or HOST:PORT, such as {PORT}")
    return host.strip("[]") or "127.0.0.1", int(port)
