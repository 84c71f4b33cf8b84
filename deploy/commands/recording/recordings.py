"""The commands `record` and `replay`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from thalweg.deploy.ops.keeping.operating import FILE, PIPELINE, SET, settings_of
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.text import printable
from thalweg.stages.io.terminal import say

_NAMES = 8
_REPORT = click.option("--report", type=FILE, help="Write turns, stages, channels and errors as JSON.")
_QUIET = click.option("-q", "--quiet", is_flag=True, help="Only what the pipeline itself prints, and errors.")


class _Speed(click.ParamType):  # type: ignore[type-arg]  # click 8.1 has none
    """`max`, or a positive number."""

    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """As `prepare_replay` takes it."""
        from thalweg.deploy.commands.recording.replay import FULL_SPEED

        if value == "max":
            return FULL_SPEED
        try:
            speed = float(value)
        except (TypeError, ValueError):
            speed = -1.0
        if not 0.01 <= speed <= 1000:
            self.fail(f"{value!r}, expected max or a number of 0.01…1000", param, ctx)
        return speed


@click.command()
@click.argument("file", type=PIPELINE)
@click.option(
    "--channel", "channels", multiple=True, required=True, metavar="'A -> B'", help="A channel to record. Repeatable."
)
@click.option("--out", type=FILE, required=True, help="File to write; must not exist.")
@SET
@_REPORT
@_QUIET
def record(file: Path, channels: tuple[str, ...], out: Path, pairs: tuple[str, ...], report: Any, quiet: bool) -> None:
    """Run a pipeline file and record the packets that leave chosen channels (docs/recording.md).

    The pipeline runs in this process; its placement is ignored.
    """
    from thalweg.deploy.commands.recording.record import Recorder
    from thalweg.deploy.commands.run import Outputs, run_spec
    from thalweg.deploy.reading import read_spec
    from thalweg.deploy.runtime.worker import Worker
    from thalweg.transports.recording import RecordingError

    spec = read_spec(file, settings_of(pairs))
    if spec.keeps_nothing:
        raise RecordingError(f"{file} says `keep: nothing`, and a recording would keep what is said in it")
    worker = Worker(spec.graph)
    recorder = Recorder(worker, spec.graph.connections, channels, out, spec.graph.name)
    try:
        code = run_spec(spec, Outputs(report=report), worker=worker, quiet=quiet)
    except ThalwegError:
        recorder.discard()
        raise
    finally:
        recorder.close()
    if not quiet:
        say(f"{recorder.writer.packets} packets are in {out}", err=True)
    sys.exit(code)


@click.command()
@click.argument("recording", type=FILE)
@click.argument("file", type=PIPELINE, required=False)
@click.option(
    "--into", multiple=True, metavar="[CHANNEL=]STAGE.PORT", help="Where to play it; default: where it was recorded."
)
@click.option("--speed", type=_Speed(), default="1", show_default=True, help="Playback speed: a factor, or max.")
@click.option("--list", "listing", is_flag=True, help="Only list the contents of the recording.")
@SET
@_REPORT
@_QUIET
def replay(
    recording: Path,
    file: Path | None,
    into: tuple[str, ...],
    speed: float,
    listing: bool,
    pairs: tuple[str, ...],
    report: Any,
    quiet: bool,
) -> None:
    """Play a recording into a pipeline file, in place of everything before that point.

    \b
    thalweg replay turn.twr voice.yaml --into recogniser.speech --speed max
    thalweg replay turn.twr --list
    """
    from thalweg.transports.recording import Recording

    if listing:
        _print_recording(Recording(recording))
        return
    if file is None:
        raise click.UsageError("say which pipeline file to play it into, or use --list")
    from thalweg.deploy.commands.recording.replay import prepare_replay
    from thalweg.deploy.commands.run import Outputs, run_spec
    from thalweg.deploy.reading import read_spec

    spec = read_spec(file, settings_of(pairs))
    prepared = prepare_replay(Recording(recording), spec.graph, into, speed)
    if not quiet:
        for note in prepared.notes:
            say(note, err=True)
    code = run_spec(
        spec, Outputs(report=report), worker=prepared.worker, live=False, quiet=quiet, make_loop=prepared.make_loop
    )
    sys.exit(code)


class _Listed:
    """What a listing says of a channel."""

    def __init__(self) -> None:
        self.packets = self.size = self.unreadable = 0
        self._names: dict[str, None] = {}
        self._more = False

    def add(self, record: bytes) -> None:
        """A packet of the channel."""
        from thalweg.transports.codec import CodecError, payload_name

        self.packets += 1
        self.size += len(record)
        try:
            name = printable(payload_name(record), 80)
        except CodecError:
            self.unreadable += 1
            return
        if name not in self._names and len(self._names) >= _NAMES:
            self._more = True
        else:
            self._names[name] = None

    @property
    def payloads(self) -> str:
        """The types of its payloads, and how many cannot be read."""
        unread = [f"{self.unreadable:,} that cannot be read"] if self.unreadable else []
        return ", ".join([*self._names, *(["…"] if self._more else []), *unread])


def _print_recording(recording: Any) -> None:  # Any: imported when it is needed
    from rich.table import Table

    from thalweg.deploy.console import Console

    found = {name: _Listed() for name in recording.channels}
    first_ns = last_ns = None
    for recorded in recording:
        first_ns = recorded.time_ns if first_ns is None else first_ns
        last_ns = recorded.time_ns
        found[recorded.channel].add(recorded.record)
    table = Table(box=None, pad_edge=False)
    for name in ("channel", "packets", "bytes", "payload"):
        table.add_column(name, justify="right" if name in ("packets", "bytes") else "left")
    for channel, listed in found.items():
        table.add_row(channel, f"{listed.packets:,}", f"{listed.size:,}", listed.payloads)
    length_s = 0.0 if first_ns is None else (last_ns - first_ns) / 1e9
    ended = "closed" if recording.complete else "cut short by a crash; what is listed is whole"
    console = Console()
    console.say(
        f"{recording.path}: pipeline {recording.about.get('pipeline', '?')}, "
        f"made {recording.about.get('made', '?')}, {length_s:.2f} s, {ended}"
    )
    console.print(table)


COMMANDS = (record, replay)
