"""Running a pipeline file from the command line: to its end, or to Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from thalweg.deploy.live import live_view
from thalweg.deploy.outcome import Problem, outcome_of
from thalweg.deploy.report import build_report, print_report, write_report
from thalweg.deploy.tracefile import write_trace
from thalweg.deploy.worker import Worker
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.spec import Spec, load_spec
from thalweg.pipeline.trace import Trace

DRAIN_S = 1.2
INTERRUPTED = 130


class FileError(ThalwegError):
    """A pipeline file that cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """The files that were asked for."""

    report: Path | None = None
    trace: Path | None = None
    timeline: Path | None = None


def read_spec(path: Path, settings: Mapping[str, str]) -> Spec:
    """Read and check a pipeline file; classes beside it can be named in it. Raises FileError, SpecError."""
    for folder in (str(Path.cwd()), str(path.parent.resolve())):
        if folder not in sys.path:
            sys.path.append(folder)
    return load_spec(_read(path), str(path), settings=settings, read_file=_read_included)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise FileError(f"cannot read {path}: {reason}") from None


def _read_included(name: str, including: str) -> tuple[str, str]:
    path = Path(including).parent / name
    return str(path), path.read_text()


def run_file(path: Path, settings: Mapping[str, str], outputs: Outputs, *, live: bool | None, quiet: bool) -> int:
    """Run a pipeline file; returns the exit code: 0, 1 where something went wrong, 130 after Ctrl-C.

    Raises ThalwegError where nothing was run.
    """
    spec = read_spec(path, settings)
    trace = Trace() if outputs.trace or outputs.timeline else None
    worker = Worker(spec.graph, trace=trace)
    if live is None:
        has_console = any(vertex.info.use == "sink.console" for vertex in spec.graph.stages.values())
        live = sys.stdout.isatty() and not has_console
    return asyncio.run(_run(worker, spec, outputs, live, quiet))


async def _run(worker: Worker, spec: Spec, outputs: Outputs, live: bool, quiet: bool) -> int:
    console = Console(stderr=True, highlight=False)
    worker.on_problem = lambda problem: _print_problem(problem, console)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if worker.stopped:
            worker.abandon()
        else:
            if not quiet:
                console.print("[dim]stopping; once more to stop at once[/]")
            worker.stop()
            loop.call_later(DRAIN_S, worker.abandon)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        with ExitStack() as stack:
            if live or (not quiet and not sys.stdout.isatty()):
                stack.enter_context(live_view(worker, console, loop, live))
            await worker.run()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    outcome = outcome_of(worker)
    report = build_report(outcome, spec.graph.name, spec.latency_budget_ns)
    if outputs.report is not None:
        write_report(outputs.report, report)
    if outputs.trace is not None:
        write_trace(outputs.trace, outcome)
    if outputs.timeline is not None:
        from thalweg.deploy.timeline import draw_timeline

        draw_timeline(outputs.timeline, outcome, spec.graph.name)
    if not quiet:
        print_report(report, console)
    code = INTERRUPTED if worker.stopped else 1 if worker.problem_count else 0
    if worker.hurried:  # a thread in the middle of a computation cannot be stopped; nothing of it is wanted
        sys.stdout.flush()
        os._exit(code)
    return code


def _print_problem(problem: Problem, console: Console) -> None:
    turn = f" (turn {problem.epoch})" if problem.epoch else ""
    console.print(f"[red]error[/] {problem.stage}{turn}: {problem.message}", soft_wrap=True)
