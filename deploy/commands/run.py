"""Running a pipeline file from the command line: to its end, or to Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.deploy.cluster.deployment import Deployment
from thalweg.deploy.commands.fit import tell_fit
from thalweg.deploy.commands.interrupts import interrupts
from thalweg.deploy.console import Console
from thalweg.deploy.errors import StartError
from thalweg.deploy.ops.observing.outcome import Outcome, Problem
from thalweg.deploy.ops.observing.report import OutputError, build_report, print_report, write_report
from thalweg.deploy.reading import module_folders, pack, read_spec
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.file.spec import Spec
from thalweg.stages.io.aside import Aside
from thalweg.stages.io.terminal import READER_GONE, is_terminal

if TYPE_CHECKING:
    from thalweg.deploy.ops.observing.readings import Stats

DRAIN_S = 1.2
INTERRUPTED = 130
_PICTURES = (".png", ".svg", ".pdf")


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
    if not quiet:
        tell_fit(spec)
    return run_spec(spec, outputs, path=path, live=live, quiet=quiet, metrics=metrics)


def run_spec(
    spec: Spec,
    outputs: Outputs,
    *,
    path: Path | None = None,
    worker: Worker | None = None,
    live: bool | None = None,
    quiet: bool = False,
    metrics: str | None = None,
    make_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """As `run_file`, of a pipeline that is read already. `path`: the file, for workers in other processes.

    `worker`: one that is ready to run, in this process, instead of the placement; `make_loop`: its event loop.
    """
    aside = Aside(err=True)
    told = _Told(Console(err=True, aside=aside), aside)
    traced = bool(outputs.trace or outputs.timeline)
    if worker is not None:
        spec = spec.in_this_process()
    bundle = None
    if not spec.plan.only_local:
        assert path is not None
        bundle = pack(spec, str(path), module_folders(path), traced=traced)
    with asyncio.Runner(loop_factory=make_loop) as runner:
        deployment = Deployment(spec, bundle, told, worker=worker, traced=traced)
        return runner.run(_run(deployment, spec, outputs, _show(live, spec), quiet, metrics, told))


def _show(live: bool | None, spec: Spec) -> bool:
    """Whether to show the live table: as was asked, else on a terminal that nothing else prints to."""
    if live is not None:
        return live
    has_console = any(vertex.info.use == "sink.console" for vertex in spec.graph.stages.values())
    return is_terminal() and not has_console


async def _run(
    deployment: Deployment,
    spec: Spec,
    outputs: Outputs,
    live: bool,
    quiet: bool,
    metrics: str | None,
    told: _Told,
) -> int:
    loop = asyncio.get_running_loop()
    console = told.console

    def stop() -> None:
        if deployment.stopped:
            deployment.abandon()
        else:
            if not quiet and not told.reader_gone:
                console.say(("stopping; once more to stop at once", "dim"))
            deployment.stop()
            loop.call_later(DRAIN_S, deployment.abandon)

    told.stop = stop
    with interrupts(stop, deployment.kill_processes, INTERRUPTED):
        try:
            async with AsyncExitStack() as stack:
                if metrics:
                    from thalweg.deploy.ops.observing.metrics import serving_metrics

                    stack.enter_context(serving_metrics(metrics, spec.graph.name, lambda: _look(deployment)))
                if live or (not quiet and not is_terminal()):
                    from thalweg.deploy.ops.observing.live import live_view

                    await stack.enter_async_context(live_view(deployment.stats, console, live))
                outcome = await deployment.run()
        except StartError:
            if not deployment.hurried:
                raise
            return INTERRUPTED  # it was told to stop while it started
        return _tell(deployment, outcome, spec, outputs, quiet, told)


def _tell(deployment: Deployment, outcome: Outcome, spec: Spec, outputs: Outputs, quiet: bool, told: _Told) -> int:
    """Write and print what a run came to; the exit code."""
    if spec.keeps_nothing:
        outcome = outcome.without_words()
    report = build_report(outcome, spec.graph.name, spec.latency_budget_ns)
    if outputs.report is not None:
        write_report(outputs.report, report)
    if outputs.trace is not None:
        from thalweg.deploy.ops.pictures.trace_file import write_trace

        write_trace(outputs.trace, outcome)
    if outputs.timeline is not None:
        from thalweg.deploy.ops.pictures.timeline import draw_timeline

        draw_timeline(outputs.timeline, outcome, spec.graph.name)
    if not quiet:
        print_report(report, told.console)
    told.aside.close()
    code = READER_GONE if told.reader_gone else INTERRUPTED if deployment.stopped else 0 if outcome.unharmed else 1
    if deployment.hurried:  # a thread in the middle of a computation cannot be stopped; nothing of it is wanted
        sys.stdout.flush()
        os._exit(code)
    return code


async def _look(deployment: Deployment) -> tuple[Stats, Mapping[str, int]]:
    return await deployment.stats(), deployment.restarts


class _Told:
    """Receives the reports of workers while they run: prints problems; ends the run when its reader has gone."""

    def __init__(self, console: Console, aside: Aside) -> None:
        self.console = console
        self.aside = aside
        self.reader_gone = False
        self.stop: Callable[[], None] = lambda: None

    def __call__(self, problem: Problem) -> None:
        if problem.ends:
            if not self.reader_gone:
                self.reader_gone = True
                self.stop()
            return
        turn = f" (turn {problem.epoch})" if problem.epoch else ""
        kind = ("recovered", "yellow") if problem.recovered else ("error", "red")
        self.console.say(kind, f" {problem.stage}{turn}: {problem.told}")
