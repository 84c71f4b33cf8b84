"""What a run comes down to: the numbers of `report.json`, and the same as a table for people."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.table import Table

from thalweg.deploy.console import Console, line
from thalweg.deploy.ops.observing.outcome import Outcome
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.observing.turn import MILESTONES, Turn
from thalweg.pipeline.text import as_json
from thalweg.stages.io.private import create_private

TURNS_SHOWN = 50
"""The newest turns, in the table for people; the report has all that were kept."""


class OutputError(ThalwegError):
    """A file that was asked for and cannot be written."""


def build_report(outcome: Outcome, name: str, latency_budget_ns: int | None = None) -> dict[str, Any]:
    """Everything that was measured, in ms from the start of the run or as the key says; JSON types only."""
    turns = [_turn(turn, outcome.started_ns) for turn in outcome.turns.values()]
    budget_ms = None if latency_budget_ns is None else latency_budget_ns / 1e6
    over = [t for t in turns if budget_ms is not None and (t["first_audio_ms"] or 0) > budget_ms]
    return {
        "pipeline": name,
        "duration_ms": _ms(outcome.ended_ns - outcome.started_ns),
        "stopped": outcome.stopped,
        "latency_budget_ms": budget_ms,
        "turns_over_budget": len(over),
        "listens": any(stage["use"] == "speech.vad" for stage in outcome.stages.values()),
        "turns": turns,
        "turns_forgotten": outcome.turns_forgotten,
        "stages": {name: _in_ms(stage) for name, stage in outcome.stages.items()},
        "channels": {name: _in_ms(channel) for name, channel in outcome.channels.items()},
        "errors": [
            {
                "stage": problem.stage,
                "message": problem.message,
                "where": problem.where,
                "turn": problem.epoch or None,
                "time_ms": _ms(problem.time_ns - outcome.started_ns),
                "recovered": problem.recovered,
            }
            for problem in outcome.problems
        ],
        "error_count": outcome.problem_count,
        "recovered_count": outcome.recovered_count,
    }


def _in_ms(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        key.removesuffix("_ns") + "_ms" if key.endswith("_ns") else key: _ms(value) if key.endswith("_ns") else value
        for key, value in entry.items()
    }


def _turn(turn: Turn, start_ns: int) -> dict[str, Any]:
    ended = turn.speech_end_ns
    latencies = {f"{m}_ms": None if turn.latency_ns(m) is None else _ms(turn.latency_ns(m) or 0) for m in MILESTONES}
    return {
        "turn": turn.epoch,
        "transcript": turn.transcript,
        "reply": turn.reply,
        "decision": turn.decision or None,
        "route": turn.route or None,
        "speech_start_ms": _ms(turn.speech_start_ns - start_ns),
        "speech_end_ms": None if ended is None else _ms(ended - start_ns),
        **latencies,
        "interrupted": turn.interrupted,
        "problem": turn.problem or None,
    }


def _ms(duration_ns: int) -> float:
    return round(duration_ns / 1e6, 3)


def write_whole(path: Path, content: str | bytes, *, public: bool = False) -> None:
    """Write a file so that it is there whole or not at all; into a pipe or device, such as /dev/stdout, as it is.

    Only its owner can read it (mode 0600). `public`: it holds no personal data and gets the umask's mode. Raises
    OutputError.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    data = content.encode() if isinstance(content, str) else content
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        part.unlink(missing_ok=True)
        with part.open("xb") if public else create_private(part) as file:
            file.write(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror}") from None


def write_report(path: Path, report: dict[str, Any]) -> None:
    """`report.json`. Raises OutputError."""
    write_whole(path, as_json(report, indent=2) + "\n")


def _turn_table(turns: list[dict[str, Any]]) -> Table:
    """A row per turn; of the milestones those that some turn reached, or all of speech where none did."""
    sensed = any(turn["decision"] for turn in turns)
    title = "samples: ms after the end of sensing" if sensed else "turns, ms after the end of speech"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, min_width=len(title))
    for column in ("sample", "decided") if sensed else ("turn", "heard"):
        table.add_column(column, overflow="ellipsis", max_width=40)
    milestones = ("decision",) if sensed else MILESTONES[:-1]
    for milestone in milestones:
        table.add_column("after" if sensed else milestone.replace("_", " "), justify="right")
    for turn in turns[-TURNS_SHOWN:]:
        numbers = (turn[f"{m}_ms"] for m in milestones)
        note = (" (interrupted)", "dim") if turn["interrupted"] else (" (failed)", "red") if turn["problem"] else ""
        cells = ["–" if n is None else f"{n:.0f}" for n in numbers]
        heard = turn["decision"] or turn["transcript"] or ("nothing", "dim")
        table.add_row(str(turn["turn"]), line(heard, note), *cells)
    return table


def print_report(report: dict[str, Any], console: Console) -> None:
    """The turns, what each stage did, and what was dropped."""
    if report["turns"]:
        earlier, forgotten = max(0, len(report["turns"]) - TURNS_SHOWN), report.get("turns_forgotten", 0)
        if earlier + forgotten:
            kept = f", {earlier} of them in the report" if forgotten else ""
            console.print(f"[dim]{earlier + forgotten} turns before those shown here{kept}[/]")
        console.print(_turn_table(report["turns"]))
        if report["turns_over_budget"]:
            console.say(f"{report['turns_over_budget']} over the budget of {report['latency_budget_ms']:.0f} ms")
    elif report["listens"]:
        console.say("no speech was found")
    table = Table(title="stages", title_justify="left", box=None, pad_edge=False)
    for column in ("stage", "units", "p50 ms", "p95 ms", "p99 ms", "busy"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, stage in report["stages"].items():
        if stage["units"]:
            times = (f"{stage[f'p{p}_ms']:.2f}" for p in (50, 95, 99))
            table.add_row(name, str(stage["units"]), *times, f"{stage['busy']:.1%}")
    console.print(table)
    for name, stage in report["stages"].items():
        if stage["counts"]:
            counted = ", ".join(f"{what.replace('_', ' ')} {n}" for what, n in stage["counts"].items())
            console.say(f"{name} counted: {counted}")
    for name, channel in report["channels"].items():
        if channel["drops"]:
            drops = ", ".join(f"{n} {reason}" for reason, n in channel["drops"].items())
            console.say(f"dropped on {name}: {drops} of {channel['pushed']}")
    if report["error_count"]:
        recovered = report.get("recovered_count", sum(error["recovered"] for error in report["errors"]))
        if report["error_count"] > recovered:
            console.say((f"{report['error_count'] - recovered} error(s)", "red"), ": see above")
        if recovered:
            console.say((f"recovered from {recovered} loss(es) of a worker", "yellow"), ", with nothing lost")
