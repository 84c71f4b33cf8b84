"""`thalweg ps` and `thalweg top`: deployments in a table, and one of them as it works."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from thalweg.deploy.console import Console
from thalweg.deploy.ops.keeping.control import Control
from thalweg.deploy.ops.keeping.deployments import DeploymentFolder, KeepingError, every, find
from thalweg.deploy.ops.observing.readings import Reading, Readings
from thalweg.stages.io.terminal import is_terminal, say, say_json

REFRESH_S = 0.5
SNAPSHOT_S = 1.0
BESIDE_CHANNEL = 48  # what the other columns of its table take
_STYLES = {
    "ready": "green",
    "running": "green",
    "starting": "yellow",
    "draining": "yellow",
    "restarting": "yellow",
    "ended": "dim",
}


def list_deployments(name: str | None, as_json: bool) -> None:
    """Every deployment of this user, or the one of that name, one row per worker. Raises KeepingError."""
    found = [_status(folder) for folder in (every() if name is None else [find(name)])]
    if as_json:
        say_json(found, indent=2)
        return
    if not found:
        say("nothing is up; `thalweg up FILE` begins a deployment that stays")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "state", "pid", "up since", "worker", "state ", "pid ", "restarts", "runs"):
        table.add_column(column, justify="right" if column in ("pid", "pid ", "restarts") else "left")
    for status in found:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status["since"])) if "since" in status else "–"
        alive = status["state"] in ("ready", "starting", "draining")
        head = [status["name"], _colored(status["state"]), str(status["pid"]) if alive else "–", since]
        workers = status["workers"] if isinstance(status["workers"], dict) else {}
        if not workers:
            table.add_row(*head, "–", "", "", "", _hint(status))
        for i, (name, worker) in enumerate(workers.items()):
            row = [name, _colored(worker["state"]), str(worker["pid"] or "–"), str(worker["restarts"])]
            stages = Text(", ".join(worker["stages"]), style="dim")
            table.add_row(*(head if i == 0 else [""] * 4), *row, stages)
    Console().print(table)


def show(folder: DeploymentFolder, as_json: bool, seconds: float | None) -> None:
    """One deployment as it works: a live view in a terminal until Ctrl-C, else one snapshot. Raises KeepingError."""
    readings = Readings()
    with Control(folder) as control:
        seen = control.ask("stats")
        readings.read(seen["stats"])
        if as_json or seconds is not None or not is_terminal():
            time.sleep(SNAPSHOT_S if seconds is None else seconds)
            seen = control.ask("stats")
            reading = readings.read(seen["stats"])
            if as_json:
                say_json({**seen["status"], **reading.plain(), "workers": _workers(seen["status"], reading)})
            else:
                Console().print(screen(seen["status"], reading))
            return
        view = Console()
        try:
            with Live(console=view, screen=True, auto_refresh=False) as live:
                while True:
                    time.sleep(REFRESH_S)
                    seen = control.ask("stats")
                    live.update(screen(seen["status"], readings.read(seen["stats"]), view.size), refresh=True)
        except KeyboardInterrupt:
            return


def screen(status: dict[str, Any], reading: Reading, size: tuple[int, int] | None = None) -> RenderableType:
    """Everything on one screen: the deployment, its workers, stages and channels.

    `size`: columns and rows of the terminal, None for no limit; where not everything fits, the quietest channels are
    left out, long names of channels are cut, and so are what stages count themselves.
    """
    width, height = size or (0, 0)
    up_s = time.time() - status["since"]
    head = Text.assemble(
        (status["name"], "bold"), "  ", (status["state"], _STYLES.get(status["state"], "red")),
        (f"  up {_duration(up_s)}  {status['file']}  over the last {reading.seconds:.0f} s", "dim"),
        no_wrap=True, overflow="ellipsis",
    )  # fmt: skip
    channels = reading.channels
    room = height - 9 - len(status["workers"]) - len(reading.stages)
    counted = [_counts(stage.stage, stage.counts) for stage in reading.stages if stage.counts]
    counted = counted[: max(0, room - 4)] if height else counted
    room -= len(counted)
    note = Text()
    if height and len(channels) > max(room, 1):
        shown = sorted(channels, key=lambda c: (c.depth, c.rate), reverse=True)[: max(room - 1, 1)]
        note = Text(f"… and {len(channels) - len(shown)} quieter channels; --json shows all", style="dim")
        channels = [channel for channel in channels if channel in shown]
    return Group(
        head, "", _worker_table(status, reading), "", _stage_table(reading), *counted, "",
        _channel_table(channels, width), note,
    )  # fmt: skip


def _worker_table(status: dict[str, Any], reading: Reading) -> Table:
    table = _table("worker", "state", pid=0, restarts=0, cpu=0, MB=0, files=0, errors=0)
    for name, worker in _workers(status, reading).items():
        numbers = (
            (str(worker["pid"]), str(worker["restarts"]), f"{worker['cpu']:.0%}", f"{worker['resident_mb']:.0f}",
             str(worker["open_files"]), _counted(worker["problems"]))
            if "cpu" in worker else ("–", str(worker["restarts"]), "–", "–", "–", "–")
        )  # fmt: skip
        table.add_row(name, _colored(worker["state"]), *numbers)
    return table


def _stage_table(reading: Reading) -> Table:
    table = _table("stage", "worker", **{"units/s": 0, "p50 ms": 0, "p95 ms": 0, "busy": 0, "queue": 0, "dropped": 0})
    table.add_column("errors", justify="right")
    for s in reading.stages:
        times = (f"{s.p50_ms:.2f}", f"{s.p95_ms:.2f}", f"{s.busy:.1%}") if s.busy else ("–", "–", "–")
        busy_style = "red" if s.busy > 0.9 else ""
        table.add_row(
            s.stage, s.worker, f"{s.rate:.1f}", *times[:2], Text(times[2], style=busy_style),
            str(s.queue), str(s.dropped), _counted(s.failures),
        )  # fmt: skip
    return table


def _counts(stage: str, counts: dict[str, int]) -> Text:
    told = ", ".join(f"{kind.replace('_', ' ')} {count}" for kind, count in sorted(counts.items()))
    return Text(f"{stage}: {told}", style="dim", no_wrap=True, overflow="ellipsis")


def _channel_table(channels: list[Any], width: int) -> Table:
    most = max(20, width - BESIDE_CHANNEL - max((len(c.worker) for c in channels), default=0)) if width else 1000
    table = _table("channel", "worker", **{"per s": 0, "waiting": 0, "age p50": 0, "p95 ms": 0})
    table.columns[1].min_width = 7
    table.add_column("dropped", no_wrap=True, min_width=7)
    for c in channels:
        side = {"whole": "", "sending": " →", "receiving": " ←"}[c.side]
        full = "red" if c.depth >= c.capacity and c.policy == "block" else ""
        ages = (f"{c.age_p50_ms:.1f}", f"{c.age_p95_ms:.1f}") if c.rate else ("–", "–")
        drops = ", ".join(f"{count} {reason}" for reason, count in c.drops.items())
        table.add_row(
            c.channel if len(c.channel) <= most else c.channel[: most - 1] + "…",
            c.worker + side,
            f"{c.rate:.1f}",
            Text(f"{c.depth}/{c.capacity}", style=full),
            *ages,
            drops,
        )
    return table


def _table(*texts: str, **numbers: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold dim")
    for column in texts:
        table.add_column(column, no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True, min_width=len(column))
    return table


def _workers(status: dict[str, Any], reading: Reading) -> dict[str, dict[str, Any]]:
    """What the supervising process knows of each worker, with what the worker told of itself, where it did."""
    told = {worker["worker"]: worker for worker in reading.plain()["workers"]}
    return {name: {**known, **told.get(name, {})} for name, known in status["workers"].items()}


def _status(folder: DeploymentFolder) -> dict[str, Any]:
    known = folder.state
    if folder.is_up:
        try:
            with Control(folder) as control:
                answer: dict[str, Any] = control.ask("status")
                return answer
        except KeepingError:  # it comes up, or ends, just now
            known = folder.state
    return {"name": folder.name, "pid": None, **known, "workers": known.get("workers", [])}


def _hint(status: dict[str, Any]) -> Text:
    name = status["name"]
    hints = {
        "lost": f"its supervising process is gone and all workers with it; clear with `thalweg down {name}`",
        "failed": f"{status.get('reason', '')}; clear with `thalweg down {name}`",
        "ended": f"came to its end; clear with `thalweg down {name}`",
    }
    return Text(hints.get(status["state"], status.get("reason", "")), style="dim")


def _colored(state: str) -> Text:
    return Text(state, style=_STYLES.get(state, "red"))


def _counted(count: int) -> Text:
    return Text(str(count), style="red" if count else "")


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{days} d"] * (days > 0) + [f"{hours} h"] * (hours > 0 or days > 0) + [f"{minutes} min"] * (minutes > 0)
    return " ".join(parts[:2]) or f"{seconds} s"
