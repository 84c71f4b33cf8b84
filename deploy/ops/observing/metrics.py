"""Prometheus metrics of every worker, in one place: read from the workers when they are scraped (docs/metrics.md).

The process that launched the workers serves them all, each with its name as the label `worker`: one address to
scrape, however many workers there are and wherever Ray has put them, and no open port on any of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from thalweg.deploy.ops.observing.turn_ledger import TurnLedger
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.histogram import Histogram

if TYPE_CHECKING:
    from prometheus_client import Metric

    from thalweg.deploy.ops.observing.readings import Stats

PORT = 9464  # what OpenTelemetry's exporters for Prometheus take by default
READ_S = 3.0
BOUNDS = tuple(range(14, 36))
"""Of histograms: 2^14 ns = 16 µs … 2^35 ns = 34 s. Powers of two, because workers count those exactly."""

Read = Callable[[], Awaitable[tuple["Stats", Mapping[str, int]]]]
"""What workers say of themselves, and how often each was restarted."""


class MetricsError(ThalwegError):
    """Metrics that cannot be served."""


class Exporter:
    """What is told at every scrape."""

    def __init__(self, read: Read, loop: asyncio.AbstractEventLoop) -> None:
        self._read = read
        self._loop = loop
        self._ledger = TurnLedger()

    async def told(self, accepted: str) -> tuple[bytes, str]:
        """Every family there is, also those without a sample yet, in the format that is asked for. Raises Refused."""
        from prometheus_client.exposition import choose_encoder

        from thalweg.deploy.door.refused import Refused

        try:
            async with asyncio.timeout(READ_S + 1):
                stats, restarts = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._now(), self._loop))
        except Exception:
            raise Refused(503, "workers", "The workers do not answer.") from None
        self._ledger.update(stats)
        encode, kind = choose_encoder(accepted)
        return encode(_Families(families(stats, restarts, self._ledger))), kind

    async def _now(self) -> tuple[Stats, Mapping[str, int]]:
        async with asyncio.timeout(READ_S):
            return await self._read()


class _Families:
    """What prometheus_client asks for what it is to encode."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = list(found)

    def collect(self) -> list[Metric]:
        return self._found


def families(stats: Stats, restarts: Mapping[str, int], ledger: TurnLedger) -> Iterator[Metric]:
    """Workers, stages, channels and turns as metric families."""
    yield from _workers(stats, restarts)
    yield from _stages(stats)
    yield from _channels(stats)
    yield from _turns(ledger)


def _workers(stats: Stats, restarts: Mapping[str, int]) -> Iterator[Metric]:
    up = _gauge("thalweg_worker_up", "1 where the worker answers", "worker")
    again = _counter("thalweg_worker_restarts", "Times the worker was started again", "worker")
    cpu = _counter("thalweg_worker_cpu_seconds", "CPU time of the worker's process", "worker")
    resident = _gauge("thalweg_worker_resident_bytes", "Resident memory of the worker's process", "worker")
    files = _gauge("thalweg_worker_open_files", "Open file descriptors of the worker's process", "worker")
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
    units = _counter("thalweg_stage_units", "Units the stage has worked on", *labels)
    busy = _counter("thalweg_stage_busy_seconds", "Time the stage has worked", *labels)
    failures = _counter("thalweg_stage_failures", "Packets lost to the stage's failures", *labels)
    counts = _counter("thalweg_stage_counts", "What the stage itself has counted, by kind", *labels, "kind")
    duration = _histogram("thalweg_stage_unit_duration_seconds", "Time per unit", *labels)
    for name, found in stats.items():
        for stage, told in found["stages"].items() if found is not None else ():
            values = [name, stage, told["use"]]
            work = Histogram.from_plain(told["work"])
            units.add_metric(values, told["units"])
            busy.add_metric(values, work.total_ns / 1e9)
            failures.add_metric(values, told["failures"])
            for kind, count in told["counts"].items():
                counts.add_metric([*values, kind], count)
            _fill(duration, values, work)
    yield from (units, busy, failures, counts, duration)


def _channels(stats: Stats) -> Iterator[Metric]:
    labels = ("worker", "channel", "side")
    depth = _gauge("thalweg_channel_depth", "Packets that wait", *labels)
    capacity = _gauge("thalweg_channel_capacity", "Packets that may wait", *labels)
    pushed = _counter("thalweg_channel_pushed", "Packets that were put in", *labels)
    popped = _counter("thalweg_channel_popped", "Packets that were taken out", *labels)
    dropped = _counter("thalweg_channel_dropped", "Packets that were dropped, by reason", *labels, "reason")
    age = _histogram("thalweg_channel_age_seconds", "Age of packets, from capture, when they were taken", *labels)
    for name, found in stats.items():
        for channel, told in found["channels"].items() if found is not None else ():
            values = [name, channel, told["side"]]
            depth.add_metric(values, told["depth"])
            capacity.add_metric(values, told["capacity"])
            pushed.add_metric(values, told["pushed"])
            popped.add_metric(values, told["popped"])
            for reason, count in told["drops"].items():
                dropped.add_metric([*values, reason], count)
            _fill(age, values, Histogram.from_plain(told["age"]))
    yield from (depth, capacity, pushed, popped, dropped, age)


def _turns(ledger: TurnLedger) -> Iterator[Metric]:
    started = _counter("thalweg_turns_started", "Turns that began")
    started.add_metric([], ledger.started)
    ended = _counter("thalweg_turns", "Turns by how they went: complete, interrupted, failed", "outcome")
    for outcome, count in ledger.outcomes.items():
        ended.add_metric([outcome], count)
    latency = _histogram(
        "thalweg_turn_latency_seconds", "From the end of speech to each milestone, 0 where it came before", "milestone"
    )
    for milestone, histogram in ledger.latencies.items():
        _fill(latency, [milestone], histogram)
    yield from (started, ended, latency)


def _gauge(name: str, doc: str, *labels: str) -> Any:  # Any: prometheus_client may be missing
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, doc, labels=labels)


def _counter(name: str, doc: str, *labels: str) -> Any:
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(name, doc, labels=labels)


def _histogram(name: str, doc: str, *labels: str) -> Any:
    from prometheus_client.core import HistogramMetricFamily

    return HistogramMetricFamily(name, doc, labels=labels)


def _fill(family: Any, labels: list[str], histogram: Histogram) -> None:
    counts = histogram.below(BOUNDS)
    buckets = [(repr(2**bound / 1e9), count) for bound, count in zip(BOUNDS, counts, strict=True)]
    family.add_metric(labels, buckets=[*buckets, ("+Inf", histogram.count)], sum_value=histogram.total_ns / 1e9)


@contextmanager
def serving_metrics(address: str | None, read: Read) -> Iterator[str]:
    """Serve metrics at `[HOST:]PORT` while the block runs; gives their URL. Without an address it does nothing.

    To be entered on the event loop that `read` is to run on. Loopback unless a host is given: metrics are for
    whoever can connect. Port 0 is any that is free. Raises MetricsError where it cannot.
    """
    if address is None:
        yield ""
        return
    host, port = parse_address(address)
    try:
        import prometheus_client  # noqa: F401
        from aiohttp import web

        from thalweg.deploy.door.front_door import DoorSettings, FrontDoor
        from thalweg.deploy.door.listening import listening_apart
    except ImportError:
        raise MetricsError("metrics need a package that is missing: pip install 'thalweg[metrics]'") from None
    exporter = Exporter(read, asyncio.get_running_loop())

    async def metrics(request: web.Request) -> web.StreamResponse:
        body, kind = await exporter.told(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": kind})

    door = FrontDoor(DoorSettings(host_names=tuple(os.environ.get("THALWEG_HOST_NAME", "").split())))
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
