"""Running a pipeline file from the command line: to its end, or to Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from thalweg.deploy.cluster.deployment import Deployment
from thalweg.deploy.cluster.host import Bundle
from thalweg.deploy.ops.observing.live import live_view
from thalweg.deploy.ops.observing.metrics import serving_metrics
from thalweg.deploy.ops.observing.outcome import Outcome, Problem, outcome_of
from thalweg.deploy.ops.observing.readings import Stats
from thalweg.deploy.ops.observing.report import build_report, print_report, write_report
from thalweg.deploy.ops.observing.stats import WorkerStats, stats_of
from thalweg.deploy.ops.pictures.trace_file import write_trace
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.plan import LOCAL
from thalweg.pipeline.file.spec import Spec, load_spec
from thalweg.pipeline.trace import Trace

DRAIN_S = 1.2
INTERRUPTED = 130
_PICTURES = (".png", ".svg", ".pdf")


class FileError(ThalwegError):
    """A pipeline file that cannot be read."""


class OutputError(ThalwegError):
    """A file that was asked for and cannot be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """The files that were asked for."""

    report: Path | None = None
    trace: Path | None = None
    timeline: Path | None = None

    def check(self) -> None:
        """Raises OutputError where one could not be written at the end of what may be a long run."""
        for path in (self.report, self.trace, self.timeline):
            if path is not None and not path.absolute().parent.is_dir():
                raise OutputError(f"cannot write {path}: there is no folder {path.absolute().parent}")
        if self.timeline is not None and self.timeline.suffix.lower() not in _PICTURES:
            raise OutputError(f"cannot draw {self.timeline}: expected a name that ends in {', '.join(_PICTURES)}")


def read_spec(path: Path, settings: Mapping[str, str]) -> Spec:
    """Read and check a pipeline file; classes beside it can be named in it. Raises FileError, SpecError."""
    for folder in (str(Path.cwd()), str(path.parent.resolve())):
        if folder not in sys.path:
            sys.path.append(folder)
    return load_spec(_read(path), str(path), settings=settings, read_file=_read_included)


def bundle_of(path: Path, settings: Mapping[str, str], *, traced: bool) -> Bundle:
    """Everything another process needs to read the same pipeline file. Raises as `read_spec`."""
    files = {str(path): _read(path)}

    def remember(name: str, including: str) -> tuple[str, str]:
        included, text = _read_included(name, including)
        files[included] = text
        return included, text

    load_spec(files[str(path)], str(path), settings=settings, read_file=remember)
    return Bundle(
        main=str(path),
        files=files,
        settings=settings,
        token=secrets.token_hex(16),
        traced=traced,
        paths=(str(Path.cwd()), str(path.parent.resolve())),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise FileError(f"cannot read {path}: {reason}") from None


def _read_included(name: str, including: str) -> tuple[str, str]:
    path = Path(including).parent / name
    return str(path), path.read_text()


def run_file(
    path: Path,
    settings: Mapping[str, str],
    outputs: Outputs,
    *,
    live: bool | None,
    quiet: bool,
    metrics: str | None = None,
) -> int:
    """Run a pipeline file; returns the exit code: 0, also where all that went wrong was recovered from with nothing
    lost; 1 where something was not; 130 after Ctrl-C.

    `metrics`: `[HOST:]PORT` to serve Prometheus metrics at. Raises ThalwegError where nothing was run.
    """
    outputs.check()
    spec = read_spec(path, settings)
    traced = bool(outputs.trace or outputs.timeline)
    console = Console(stderr=True, highlight=False)
    if spec.plan.only_local:
        return run_worker(Worker(spec.graph, trace=Trace() if traced else None), spec, outputs, live, quiet, metrics)
    bundle = bundle_of(path, settings, traced=traced)
    runner = Deployment(spec.plan, bundle, lambda problem: _print_problem(problem, console))
    return asyncio.run(_run(runner, spec, outputs, _show(live, spec), quiet, metrics, console))


def run_worker(
    worker: Worker,
    spec: Spec,
    outputs: Outputs,
    live: bool | None = None,
    quiet: bool = False,
    metrics: str | None = None,
    *,
    make_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """As `run_file`, of a worker in this process."""
    console = Console(stderr=True, highlight=False)
    worker.on_problem = lambda problem: _print_problem(problem, console)
    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(_run(_Local(worker), spec, outputs, _show(live, spec), quiet, metrics, console))


def _show(live: bool | None, spec: Spec) -> bool:
    """Whether to show the live table: as was asked, else on a terminal that nothing else prints to."""
    if live is not None:
        return live
    has_console = any(vertex.info.use == "sink.console" for vertex in spec.graph.stages.values())
    return sys.stdout.isatty() and not has_console


class _Local:
    """Everything in this process."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    @property
    def stopped(self) -> bool:
        return self.worker.stopped

    @property
    def hurried(self) -> bool:
        return self.worker.hurried

    async def run(self) -> Outcome:
        await self.worker.run()
        return outcome_of(self.worker)

    @property
    def restarts(self) -> dict[str, int]:
        return {LOCAL: 0}

    async def stats(self) -> dict[str, WorkerStats | None]:
        return {LOCAL: stats_of(self.worker)}

    def stop(self) -> None:
        self.worker.stop()

    def abandon(self) -> None:
        self.worker.abandon()


async def _run(
    runner: _Local | Deployment,
    spec: Spec,
    outputs: Outputs,
    live: bool,
    quiet: bool,
    metrics: str | None,
    console: Console,
) -> int:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if runner.stopped:
            runner.abandon()
        else:
            if not quiet:
                console.print("[dim]stopping; once more to stop at once[/]")
            runner.stop()
            loop.call_later(DRAIN_S, runner.abandon)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        async with AsyncExitStack() as stack:
            stack.enter_context(serving_metrics(metrics, lambda: _look(runner)))
            if live or (not quiet and not sys.stdout.isatty()):
                await stack.enter_async_context(live_view(runner.stats, console, live))
            outcome = await runner.run()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    report = build_report(outcome, spec.graph.name, spec.latency_budget_ns)
    if outputs.report is not None:
        write_report(outputs.report, report)
    if outputs.trace is not None:
        write_trace(outputs.trace, outcome)
    if outputs.timeline is not None:
        from thalweg.deploy.ops.pictures.timeline import draw_timeline

        draw_timeline(outputs.timeline, outcome, spec.graph.name)
    if not quiet:
        print_report(report, console)
    code = INTERRUPTED if runner.stopped else 0 if outcome.unharmed else 1
    if runner.hurried:  # a thread in the middle of a computation cannot be stopped; nothing of it is wanted
        sys.stdout.flush()
        os._exit(code)
    return code


async def _look(runner: _Local | Deployment) -> tuple[Stats, Mapping[str, int]]:
    return await runner.stats(), runner.restarts


def _print_problem(problem: Problem, console: Console) -> None:
    turn = f" (turn {problem.epoch})" if problem.epoch else ""
    kind = "[yellow]recovered[/]" if problem.recovered else "[red]error[/]"
    console.print(f"{kind} {problem.stage}{turn}: {problem.message}", soft_wrap=True)
