"""`thalweg hub` and `thalweg node`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from thalweg.stages.io.terminal import say, say_json

_FOLDER = click.Path(file_okay=False, path_type=Path)
_NODES = click.option("--node", "nodes", multiple=True, metavar="NAME", help="Only this node. Repeatable.")


def _hub_folder(function: Any) -> Any:
    return click.option("--folder", type=_FOLDER, envvar="THALWEG_HUB", help="Folder of the hub.  [$THALWEG_HUB]")(
        function
    )


def _node_folder(function: Any) -> Any:
    return click.option(
        "--folder", type=_FOLDER, envvar="THALWEG_NODE_FOLDER", help="Folder of the node.  [$THALWEG_NODE_FOLDER]"
    )(function)


@click.group()
def hub() -> None:
    """Manage nodes at the edge: enrol them, store what they send, roll out what they run (docs/edge.md).

    \b
    thalweg hub run                       run the hub
    thalweg hub enrol drone-7             print a code for a new node, valid once, for a day
    thalweg hub rollout uav.yaml          have all nodes run this file
    thalweg hub nodes                     list nodes, what they run and what is queued
    thalweg hub records drone-7           print everything that a node has sent, as JSON
    """


@hub.command("run")
@_hub_folder
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at for nodes; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=7443, show_default=True)
@click.option("--page", "page_port", type=click.IntRange(0, 65535), help="Serve the hub's page at this port.")
@click.option(
    "--page-host", default="127.0.0.1", show_default=True, help="Serve the page at this address; all can look."
)
@click.option(
    "--keep-days", type=click.FloatRange(0, min_open=True), help="How long to keep what nodes send; default: no limit."
)
def hub_run(
    folder: Path | None, host: str, port: int, page_port: int | None, page_host: str, keep_days: float | None
) -> None:
    """Run the hub until Ctrl-C. The first run creates its certificate authority: back up the folder."""
    from thalweg.deploy.fleet.hub.serve import run_hub
    from thalweg.deploy.fleet.hub.state import default_folder

    page = None if page_port is None else (page_host, page_port)
    sys.exit(run_hub(folder or default_folder(), host, port, page, keep_days))


def _ask(folder: Path | None, call: str, **args: Any) -> Any:
    from thalweg.deploy.fleet.hub.serve import asking
    from thalweg.deploy.fleet.hub.state import default_folder

    with asking(folder or default_folder()) as control:
        return control.ask(call, within_s=120.0, **args)


@hub.command("enrol")
@click.argument("name")
@_hub_folder
@click.option(
    "--lends",
    default="",
    metavar="PLACE",
    help="Let it lend workers to other nodes, as the place fog, cloud or another.",
)
def hub_enrol(name: str, folder: Path | None, lends: str) -> None:
    """Print a code with which one device can become the node NAME, within a day."""
    say(_ask(folder, "enrol", name=name, lends=lends))


@hub.command("nodes")
@_hub_folder
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def hub_nodes(folder: Path | None, as_json: bool) -> None:
    """List nodes: whether they are online, what they run and should run, what is queued, what was lost."""
    from rich.table import Table

    from thalweg.deploy.console import Console

    rows = _ask(folder, "nodes")
    if as_json:
        say_json(rows, indent=2)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("node", "state", "seen", "runs", "wanted", "phase", "waits", "received", "lost", "why"):
        table.add_column(column)
    for row in rows:
        seen = "–" if row["seen_s"] is None else f"{row['seen_s']:.0f} s ago"
        why = "; ".join(filter(None, (row["disk"] and f"its disk takes nothing: {row['disk']}", row["reason"])))
        table.add_row(
            row["node"], row["state"], seen, str(row["current"] or "–"), str(row["wanted"] or "–"), row["phase"],
            str(row["waits"]), str(sum(row["received"].values())), str(sum(row["lost"].values())), why,
        )  # fmt: skip
    Console().print(table)


@hub.command("events")
@click.argument("name")
@_hub_folder
def hub_events(name: str, folder: Path | None) -> None:
    """Print the newest events of a node, one JSON object per line, newest first."""
    for event in _ask(folder, "events", name=name):
        say_json(event)


@hub.command("records")
@click.argument("name")
@_hub_folder
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(["events", "telemetry", "media"]),
    help="Only records of this kind. Repeatable.",
)
@click.option("--stream", "streams", multiple=True, metavar="STREAM", help="Only this stream. Repeatable.")
@click.option("--since", metavar="DURATION", help="Only records of the last 30min, say, by the node's clock.")
def hub_records(
    name: str, folder: Path | None, kinds: tuple[str, ...], streams: tuple[str, ...], since: str | None
) -> None:
    """Print everything that a node has sent, one JSON object per line, in order of arrival.

    Reads the hub's folder; the hub need not run. Bytes are printed as {"base64": …}.
    """
    import time

    from thalweg.deploy.fleet.hub.export import plain, stored_records
    from thalweg.deploy.fleet.hub.state import default_folder
    from thalweg.pipeline.duration import parse_duration
    from thalweg.pipeline.fleet.spool_policy import SpoolClass

    try:
        since_ns = time.time_ns() - parse_duration(since) if since else 0
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from None
    wanted = [SpoolClass(kind) for kind in kinds] or list(SpoolClass)
    for stored in stored_records(folder or default_folder(), name, wanted, since_ns):
        if not streams or stored.stream in streams:
            say_json(plain(stored))


@hub.command("rollout")
@click.argument("pipeline", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_hub_folder
@_NODES
@click.option(
    "--file", "files", multiple=True, metavar="PATH", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file that it needs: model, module, wheel, data. Stored beside it on the node. Repeatable.",
)  # fmt: skip
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Value of a variable of the file.")
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="STAGE",
    help="An output that must flow in the trial; default: all sinks.",
)
@click.option(
    "--open", "opening", default=15.0, show_default=True, metavar="SECONDS", help="Timeout for its stages to open."
)
@click.option("--watch", default=30.0, show_default=True, metavar="SECONDS", help="Length of the trial.")
@click.option("--missed", default=0.05, show_default=True, help="Largest share of deadlines missed in the trial.")
def hub_rollout(
    pipeline: Path,
    folder: Path | None,
    nodes: tuple[str, ...],
    files: tuple[Path, ...],
    pairs: tuple[str, ...],
    outputs: tuple[str, ...],
    opening: float,
    watch: float,
    missed: float,
) -> None:
    """Roll out a pipeline file. Each node downloads it, tries it while disarmed, and keeps it or reverts.

    The file is checked here first, without running any of its code.
    """
    from thalweg.deploy.fleet.given import check_outputs, check_wheels, files_by_name
    from thalweg.deploy.ops.keeping.operating import settings_of
    from thalweg.deploy.reading import read_spec

    settings = settings_of(pairs)
    check_outputs(read_spec(pipeline, settings, trust=False), outputs)
    paths = files_by_name((pipeline, *files))
    check_wheels(paths)
    given = {name: str(path) for name, path in paths.items()}
    gate = {"open_ns": int(opening * 1e9), "watch_ns": int(watch * 1e9), "missed": missed, "outputs": list(outputs)}
    generation, chosen = _ask(
        folder, "rollout", pipeline=pipeline.name, files=given, settings=settings, nodes=list(nodes), gate=gate
    )
    say(f"generation {generation} is wanted of {', '.join(chosen) or 'no node'}; `thalweg hub nodes` shows the rest")


@hub.command("rollback")
@click.argument("generation", type=click.IntRange(1))
@_hub_folder
@_NODES
def hub_rollback(generation: int, folder: Path | None, nodes: tuple[str, ...]) -> None:
    """Have nodes run the release of GENERATION again: the named ones, or all that should run a newer one."""
    new, chosen = _ask(folder, "rollback", generation=generation, nodes=list(nodes))
    say(f"generation {new}, which is {generation} again, is wanted of {', '.join(chosen) or 'no node'}")


@hub.command("command")
@click.argument("name")
@click.argument("action", type=click.Choice(["hold", "return", "land", "gimbal", "photo"]))
@_hub_folder
@click.option(
    "--set", "pairs", multiple=True, metavar="NAME=DEGREES", help="Parameter of gimbal: pitch or yaw. Repeatable."
)
@click.option("--within", type=click.FloatRange(1, 30), default=10.0, show_default=True, metavar="SECONDS")
def hub_command(name: str, action: str, folder: Path | None, pairs: tuple[str, ...], within: float) -> None:
    """Send a command to the vehicle of a node, if the node's own file allows it. It expires within seconds.

    `thalweg hub events NAME` shows its outcome.
    """
    try:
        settings = {key: float(value) for key, _, value in (pair.partition("=") for pair in pairs)}
    except ValueError:
        raise click.BadParameter("a number of degrees is expected, as --set pitch=-90", param_hint="--set") from None
    say(_ask(folder, "command", name=name, action=action, settings=settings, valid_s=within))


@hub.command("video")
@click.argument("name")
@_hub_folder
@click.option(
    "--seconds", type=click.FloatRange(0, 600), default=60.0, show_default=True, help="For how long; 0 ends it."
)
@click.option("--within", type=click.FloatRange(1, 30), default=10.0, show_default=True, metavar="SECONDS")
def hub_video(name: str, folder: Path | None, seconds: float, within: float) -> None:
    """Ask a node for video, if its own file allows `video` and its pipeline has some on demand (`fleet.uplink`)."""
    say(_ask(folder, "command", name=name, action="video", settings={"seconds": seconds}, valid_s=within))


@hub.command("revoke")
@click.argument("name")
@_hub_folder
def hub_revoke(name: str, folder: Path | None) -> None:
    """Refuse a node from now on. It keeps running its pipelines; enrol it again to admit it."""
    _ask(folder, "revoke", name=name)
    say(f"{name} is let in no more")


@click.group()
def node() -> None:
    """Run the agent of a machine at the edge, which keeps its pipelines and their data, with or without a hub
    (docs/edge.md).

    \b
    thalweg node enrol HUB CODE      become a node of a hub; `thalweg hub enrol NAME` prints the code
    thalweg node run                 run the agent, under systemd
    thalweg node lend                lend workers to other nodes, where the hub allows that
    """


@node.command("enrol")
@click.argument("hub_address", metavar="HUB")
@click.argument("code")
@_node_folder
def node_enrol(hub_address: str, code: str, folder: Path | None) -> None:
    """Make this machine a node of the hub at HUB, HOST or HOST:PORT. Its keys are made here and stay here."""
    from thalweg.deploy.fleet.node.identity import default_folder, enrol

    name = enrol(folder or default_folder(), hub_address, code)
    say(f"this is node {name} now; `thalweg node run` starts its agent")


@node.command("run")
@_node_folder
@click.option("--report", default=5.0, show_default=True, metavar="SECONDS", help="Interval of reports to the hub.")
def node_run(folder: Path | None, report: float) -> None:
    """Run the agent of this node until SIGTERM. Needs no hub to start, and survives its loss."""
    from thalweg.deploy.fleet.node.agent import run_node
    from thalweg.deploy.fleet.node.identity import default_folder

    sys.exit(run_node(folder or default_folder(), report_s=report))


def _resource(pair: str) -> tuple[str, float]:
    name, _, amount = pair.rpartition("=")
    try:
        if name and (found := float(amount)) > 0:
            return name, found
    except ValueError:
        pass
    raise click.BadParameter("an amount is expected, as --resource camera=1", param_hint="--resource")


@node.command("lend")
@_node_folder
@click.option("--host", default="0.0.0.0", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=7444, show_default=True)
@click.option(
    "--reached-at", default="", metavar="HOST", help="Address by which nodes reach it; default: as the hub sees it."
)
@click.option(
    "--workers", type=click.IntRange(1, 256), default=2, show_default=True, help="Most workers lent at a time."
)
@click.option(
    "--files", type=_FOLDER, default=".", help="Working folder of the workers, with models and stages of your own."
)
@click.option(
    "--memory",
    type=click.IntRange(64),
    metavar="MB",
    help="Most that each worker allocates; default: its share of all.",
)
@click.option("--on", type=click.Choice(["ray"]), help="Run workers in a Ray cluster, not on this machine.")
@click.option("--address", default="", help="Address of the Ray cluster; default: RAY_ADDRESS, or the local one.")
@click.option("--cpus", type=click.FloatRange(0), default=0.0, help="Ray: CPUs to reserve for each worker.")
@click.option("--gpus", type=click.FloatRange(0), default=0.0, help="Ray: GPUs to reserve for each worker.")
@click.option(
    "--resource",
    "resources",
    multiple=True,
    metavar="NAME=AMOUNT",
    help="Ray: reserve of a custom resource. Repeatable.",
)
def node_lend(
    folder: Path | None,
    host: str,
    port: int,
    reached_at: str,
    workers: int,
    files: Path,
    memory: int | None,
    on: str | None,
    address: str,
    **asked: Any,
) -> None:
    """Lend workers to nodes of the same hub, until SIGTERM. Each runs one stage, as long as its node needs it.

    Runs on a machine in fog or cloud that was enrolled by a code of `thalweg hub enrol NAME --lends PLACE`.
    With --on ray each worker runs as an actor of a Ray cluster, in the folder of --files there.
    """
    from thalweg.deploy.fleet.lending.run import Lent, run_lender
    from thalweg.deploy.fleet.node.identity import default_folder

    asked["resources"] = dict(map(_resource, asked["resources"]))
    if on is None and (address or any(asked.values())):
        raise click.UsageError("--address, --cpus, --gpus and --resource are of Ray: they want --on ray")
    if address:
        os.environ["RAY_ADDRESS"] = address
    lent = Lent(workers, files, memory * 10**6 if memory else None, asked if on else None)
    sys.exit(run_lender(folder or default_folder(), host, port, reached_at, lent))


@node.command("status")
@_node_folder
def node_status(folder: Path | None) -> None:
    """Print the state of this node's rollout, as JSON; the agent need not run."""
    from thalweg.deploy.fleet.node.identity import Identity, default_folder
    from thalweg.deploy.fleet.node.releases import Releases

    identity = Identity(folder or default_folder())
    record = Releases(identity.folder, identity.signing).load()
    say(json.dumps({"node": identity.name, "hub": str(identity.address), **record.plain()}, indent=2))
