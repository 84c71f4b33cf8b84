"""The commands of those who operate pipelines: `plan`, and those for deployments that stay."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from thalweg.stages.io.terminal import say, say_json

FILE = click.Path(dir_okay=False, path_type=Path)
_EXAMPLES = Path(__file__).parents[2] / "examples"


class PipelineFile(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.3 on
    """A pipeline file; a bare name that is no file here may be one of the examples that come with Thalweg."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """From what was typed."""
        path = Path(value)
        example = _EXAMPLES / path.name
        bundled = path.name == str(value) and not path.exists() and example.suffix == ".yaml" and example.exists()
        return example if bundled else path


PIPELINE = PipelineFile()
SET = click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Value of a variable of the file.")


METRICS = click.option(
    "--metrics", metavar="[HOST:]PORT", help="Serve Prometheus metrics of all workers here (docs/metrics.md)."
)
TRUST = click.option(
    "--trust",
    is_flag=True,
    help="Import stages that the file names as module:Class. This runs their code.",
)
NAME = click.argument("name", required=False)


def settings_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """`("a=1", "b=x")` → `{"a": "1", "b": "x"}`."""
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r}, expected name=value", param_hint="--set")
        settings[name] = value
    return settings


@click.command()
@click.argument("file", type=PIPELINE)
@SET
@click.option("--svg", type=FILE, help="Draw it, one lane per worker.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@TRUST
def plan(file: Path, pairs: tuple[str, ...], svg: Path | None, as_json: bool, trust: bool) -> None:
    """Show on which worker each stage would run and the transport of each edge. Nothing is started.

    \b
    An edge inside a worker is memory, between workers on one host shared memory, between hosts gRPC.
    Move a stage with one line under `placement:`; choose a transport under `transports:`.
    """
    from thalweg.deploy.console import Console
    from thalweg.deploy.ops.observing.report import write_whole
    from thalweg.deploy.ops.pictures.plan import plan_svg
    from thalweg.deploy.ops.pictures.plan_text import plan_entry, print_plan
    from thalweg.deploy.reading import read_spec, unchecked_line

    spec = read_spec(file, settings_of(pairs), trust=trust, to_look_at=True)
    if spec.unchecked:
        say(unchecked_line(spec), err=True)
    if svg is not None:
        write_whole(svg, plan_svg(spec), public=True)
    if as_json:
        say_json(plan_entry(spec), indent=2)
    else:
        print_plan(spec, Console())


@click.command()
@click.argument("file", type=PIPELINE)
@SET
@click.option("--name", help="Name of the deployment; default: that of the pipeline.")
@click.option("--ray", metavar="ADDRESS", help="Ray cluster for workers with launcher ray, HOST:PORT.")
@METRICS
@click.option("--within", default=120.0, show_default=True, metavar="SECONDS", help="Timeout for all stages to open.")
@click.option("--foreground", is_flag=True, help="Do not detach: for systemd and containers.")
def up(
    file: Path,
    pairs: tuple[str, ...],
    name: str | None,
    ray: str | None,
    metrics: str | None,
    within: float,
    foreground: bool,
) -> None:
    """Run a pipeline in the background: it survives your logout, under a supervising process of its own.

    Returns once every stage is open. If one fails, prints the reason and leaves nothing running. With --foreground it
    is the supervising process itself: workers print here, SIGTERM drains, and it ends with the pipeline.

    \b
    thalweg up voice.yaml --name kiosk     begin
    thalweg ps                             what is up, and how its workers are
    thalweg top kiosk                      rates, queues and drops as they happen
    thalweg logs kiosk --follow            what its workers print
    thalweg restart kiosk ears             one worker, or the worker of a stage, anew
    thalweg down kiosk                     drain and end
    """
    from thalweg.deploy.ops.keeping.up import bring_up

    folder, code = bring_up(
        file, settings_of(pairs), name=name, ray=ray, metrics=metrics, within_s=within, foreground=foreground
    )
    if foreground:
        sys.exit(code)
    say(f"{folder.name} is up; `thalweg top {folder.name}` watches it, `down` ends it")
    if folder.state["metrics"]:
        say(f"metrics at {folder.state['metrics']}")


@click.command()
@NAME
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def ps(name: str | None, as_json: bool) -> None:
    """List deployments, or the one called NAME, and the state of their workers.

    \b
    starting   stages are being opened          ended   its streams have ended
    ready      it runs                          failed  it could not start, with the reason
    draining   it was told to stop              lost    its supervising process was killed, or the machine restarted
    """
    from thalweg.deploy.ops.keeping.top import list_deployments

    list_deployments(name, as_json)


@click.command()
@NAME
@click.option("--json", "as_json", is_flag=True, help="One snapshot as JSON.")
@click.option("--once", "seconds", type=float, metavar="SECONDS", help="One snapshot over this many seconds, as text.")
def top(name: str | None, as_json: bool, seconds: float | None) -> None:
    """Monitor a deployment: rate, times, queues and drops per stage and channel; state and restarts per worker.

    NAME may be omitted if only one is up. Rates and quantiles cover the last five seconds. In a terminal it runs until
    Ctrl-C; elsewhere it prints one snapshot over a second.
    """
    from thalweg.deploy.ops.keeping.deployments import the_one
    from thalweg.deploy.ops.keeping.top import show

    show(the_one(name), as_json, seconds)


@click.command()
@NAME
@click.option("--worker", help="Only this worker; `supervisor`: the supervising process.")
@click.option("-n", "--lines", default=100, show_default=True, help="Number of last lines to show of each log.")
@click.option("-f", "--follow", is_flag=True, help="Follow the logs until the deployment ends.")
def logs(name: str | None, worker: str | None, lines: int, follow: bool) -> None:
    """Show the output of a deployment's workers and of its supervising process.

    A log is rotated at 10 MB; the previous one is kept as NAME.log.1.
    """
    from thalweg.deploy.ops.keeping.deployments import the_one
    from thalweg.deploy.ops.keeping.logs import log_lines

    for line in log_lines(the_one(name, up=False), worker, lines, follow):
        say(line)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="[NAME] STAGE|WORKER")
@click.option("--within", default=60.0, show_default=True, metavar="SECONDS", help="Timeout for the restart.")
def restart(names: tuple[str, ...], within: float) -> None:
    """Kill a worker and start it again; of a stage, the worker that hosts it.

    It continues from its last checkpoint while its neighbours wait; docs/deployment.md says what happens to packets in
    flight. NAME may be omitted if only one deployment is up.
    """
    from thalweg.deploy.ops.keeping.control import Control
    from thalweg.deploy.ops.keeping.deployments import the_one

    if len(names) > 2:
        raise click.UsageError("one stage or worker at a time")
    with Control(the_one(names[0] if len(names) == 2 else None)) as control:
        done = control.ask("restart", within_s=within, what=names[-1])
    say(f"worker {done['worker']} runs again, with {', '.join(done['stages'])}")


@click.command()
@click.argument("name")
@click.option("--within", default=10.0, show_default=True, metavar="SECONDS", help="Timeout for draining.")
def down(name: str, within: float) -> None:
    """Stop a deployment: its sources stop, queued work is finished, and no process is left.

    Work that is not finished in time is dropped. Also removes a deployment that failed, ended or was lost.
    """
    from thalweg.deploy.ops.keeping.deployments import find
    from thalweg.deploy.ops.keeping.up import take_down

    say(f"{name} is down: {take_down(find(name), within)}")


COMMANDS = (plan, up, ps, top, logs, restart, down)
